"use strict";
// How well prompts are followed against likeness to a subject: a point for each checkpoint.

const FRAME = {left: 60, right: 20, top: 12, bottom: 44};

function svg(tag, attributes, ...children) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
    found.append(...children);
    return found;
}

/** Return the curves by likeness that belong to the one that is chosen. */
const likenesses = () => DATA.curves.filter(it => it.front && it.like === (curve().like ?? curve().place));

/** Return from where to where numbers reach, with some room, and where they map to. */
function scaleOf(values, from, to) {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || 0.01) * 0.06;
    [low, high] = [low - room, high + room];
    const place = value => from + (value - low) / (high - low) * (to - from);
    const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find(it => it * unit >= rough);
    const first = Math.ceil(low / step);
    const ticks = Array.from({length: Math.floor(high / step) - first + 1}, (_, at) => (first + at) * step);
    return {place, ticks};
}

const endsOf = it => nothing(it.low) ? [it.mean] : [it.low, it.high];

function drawFront() {
    const all = likenesses();
    $("tradeoff").hidden = !all.length;
    if (!all.length) return;
    const own = all.find(it => it.scorer === state.likeness) ?? all[0];
    $("likeness").replaceChildren(...all.map(it => make("option", {value: it.scorer}, it.scored_by)));
    $("likeness").value = own.scorer;
    const prompts = DATA.curves[own.like];
    const points = own.checkpoints.map((it, column) =>
        ({like: it, prompt: prompts.checkpoints[it.at ?? column], on: own.front.includes(column)}));
    const wide = $("front").clientWidth, high = height();
    const x = scaleOf(points.flatMap(it => endsOf(it.like)), FRAME.left, wide - FRAME.right);
    const y = scaleOf(points.flatMap(it => endsOf(it.prompt)), high - FRAME.bottom, FRAME.top);
    const said = ticks => ticks.map(it => told(it, Math.min(4, decimals(ticks))));
    const [across, up] = [said(x.ticks), said(y.ticks)];
    const line = (x1, y1, x2, y2, name) => svg("line", {x1, y1, x2, y2, class: name});
    const edge = own.front.map(column => points[column])  // from the least likeness on
        .map(it => `${x.place(it.like.mean)},${y.place(it.prompt.mean)}`);
    $("front").replaceChildren(svg("svg", {width: wide, height: high, role: "img",
        "aria-label": `means by ${prompts.scored_by} against means by ${own.scored_by}`},
        ...x.ticks.flatMap((it, place) => [line(x.place(it), FRAME.top, x.place(it), high - FRAME.bottom, "grid"),
            svg("text", {x: x.place(it), y: high - FRAME.bottom + 16, "text-anchor": "middle"}, across[place])]),
        ...y.ticks.flatMap((it, place) => [line(FRAME.left, y.place(it), wide - FRAME.right, y.place(it), "grid"),
            svg("text", {x: FRAME.left - 8, y: y.place(it) + 4, "text-anchor": "end"}, up[place])]),
        svg("text", {x: wide - FRAME.right, y: high - 8, "text-anchor": "end"}, `likeness: mean by ${own.scorer} →`),
        svg("text", {x: FRAME.left + 6, y: FRAME.top + 10}, "↑ prompts: mean by the first scorer"),
        svg("polyline", {points: edge.join(" "), class: "edge"}),
        ...points.flatMap(it => pointOf(it, own, x.place, y.place, line))));
}

/** Draw one, with its intervals, and a ring around the one that is shown. */
function pointOf({like, prompt, on}, own, x, y, line) {
    const [cx, cy] = [x(like.mean), y(prompt.mean)];
    const mine = curve() === own ? like : prompt;
    const name = `${shortName(mine)}: ${told(prompt.mean, prompt.of.digits)}, likeness ${told(like.mean, own.digits)}`;
    const text = svg("title", {}, on ? `${name}, on the front` : name);
    const dot = like.base ? svg("rect", {x: cx - 5, y: cy - 5, width: 10, height: 10, class: "point base"}, text)
        : svg("circle", {cx, cy, r: 6, class: on ? "point on" : "point"}, text);
    dot.onclick = () => moveTo(mine);
    const [left, right] = endsOf(like), [low, top] = endsOf(prompt);
    return [
        ...(nothing(right) ? [] : [line(x(left), cy, x(right), cy, "interval")]),
        ...(nothing(top) ? [] : [line(cx, y(low), cx, y(top), "interval")]),
        ...(shown() === mine ? [svg("circle", {cx, cy, r: 11, class: "ring"})] : []),
        dot,
    ];
}

listeners.push(fresh => {
    if (["data", "curve", "column", "likeness"].some(it => fresh.has(it))) drawFront();
});
$("likeness").onchange = event => show({likeness: event.target.value});
new ResizeObserver(drawFront).observe($("front"));
