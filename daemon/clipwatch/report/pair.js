"use strict";
// Two checkpoints: what `clipwatch compare` says of them, which prompts moved, and their scores.

const BINS = 40;
let bars = null;

const paragraphs = texts => texts.map(it => make("p", {}, it));

/** Return how the sentences below call a checkpoint. */
function called(it) {
    if (!it.base || it.of !== curve()) return nameOf(it);
    return curve().unit === "file" ? it.name : `the base @${it.step}`;
}

/** Offer all that the shown one may be compared with, by curve. */
function drawAgainst() {
    const option = it => make("option", {value: it.id}, it.mark === "best" ? `${nameOf(it)} (best)` : nameOf(it));
    const [own, ...others] = [curve(), ...beside().filter(it => it !== curve())];
    const groups = others.map(of => make("optgroup", {label: titleOf(of)}, ...of.checkpoints.map(option)));
    $("against").replaceChildren(...own.checkpoints.map(option), ...groups);
}

/** Say what `clipwatch compare` says of the two that are chosen. */
function drawPair() {
    const a = against(), b = shown();
    $("shown").textContent = nameOf(b) + (b.mark ? `, ${b.mark}` : "");
    $("column").value = state.column;
    $("column").setAttribute("aria-valuetext", $("shown").textContent);
    $("against").value = a.id;
    $("pair-head").textContent = a === b ? nameOf(b) : `From ${called(a)} (a) to ${called(b)} (b)`;
    $("moved").replaceChildren();
    if (a === b) {
        $("compared").replaceChildren(...paragraphs(["Choose another checkpoint to see what changed."]));
    } else {
        $("compared").replaceChildren(...paragraphs(DATA.pairs[`${a.id} ${b.id}`] ?? counts(a, b)));
        const {gained, lost} = movedMost(a, b);
        for (const [head, found] of [["Gained most", gained], ["Lost most", lost]]) {
            if (found.length) $("moved").append(make("h3", {}, head), make("div", {class: "moves"}, ...found.map(it => moveOf(it, a, b))));
        }
    }
    drawHistogram();
}

/** Say what can be counted here, of two whose interval was not computed; or why they cannot be compared. */
function counts(a, b) {
    if (!comparable(a, b)) {
        const why = DATA.apart[[a.of.place, b.of.place].sort((one, other) => one - other).join(" ")];
        return [`They were not scored alike, so that their scores cannot be compared: ${why ?? "by other scorers"}`];
    }
    const it = tally(a, b);
    if (!it.prompts) return ["They share no scored prompt."];
    return [
        `${nameOf(b)} less ${nameOf(a)} is ${told(it.delta)} on ${it.prompts} prompts: higher on `
        + `${it.wins}, equal on ${it.ties}, lower on ${it.losses}.`,
        `How sure that is: clipwatch compare ${a.found_by} ${b.found_by}`
        + (curve().scorer ? ` --scorer ${curve().scorer}` : ""),
    ];
}

function moveOf({prompt, by}, a, b) {
    return make("button", {type: "button", class: "move", onclick: () => { show({prompt}); openViewer(); }},
        make("span", {class: "two"}, picture(a, prompt), picture(b, prompt)),
        make("span", {class: "score"}, make("em", {class: classOf(by)}, signed(by)),
            ` ${told(scoreOf(a, prompt))} to ${told(scoreOf(b, prompt))}`),
        make("span", {class: "words", dir: "auto"}, curve().prompts[prompt].text));
}

/** Return in how many images each has a score from one edge to the next; the edges. */
function histogramOf(all) {
    const scores = all.map(it => it.scores.filter(Boolean).flat());
    const flat = scores.flat();
    const [low, high] = [flat.reduce((a, b) => Math.min(a, b), Infinity), flat.reduce((a, b) => Math.max(a, b), -Infinity)];
    const width = (high - low) / BINS || 0.001;
    const edges = Array.from({length: BINS + 1}, (_, place) => low + place * width);
    const counts = scores.map(row => {
        const found = Array(BINS + 1).fill(0);  // the last closes the steps
        for (const score of row) found[Math.min(BINS - 1, Math.floor((score - low) / width))] += 1;
        return found;
    });
    return {edges, counts};
}

/** Lay the scores of both over each other; of one by itself where both are the same. */
function drawHistogram() {
    bars?.destroy();
    bars = null;
    const all = unique([against(), shown()]).filter(it => it.of.scorer === curve().scorer);
    const {edges, counts: found} = histogramOf(all);
    const colours = all.length > 1 ? ["--base", "--line"] : ["--line"];
    const axis = {stroke: colour("--soft"), grid: {stroke: colour("--grid"), width: 1}, ticks: {stroke: colour("--grid"), width: 1}};
    bars = new uPlot({
        width: $("histogram").clientWidth, height: 180,
        scales: {x: {time: false}, y: {range: (_, __, high) => [0, Math.max(1, high * 1.05)]}},
        axes: [{...axis, values: (_, ticks) => ticks.map(it => told(it, Math.min(4, decimals(ticks))))}, {...axis, size: 60}],
        series: [
            {label: "score from", value: (_, value) => nothing(value) ? "–" : told(value)},
            ...all.map((it, place) => ({
                label: `images of ${nameOf(it)}`, stroke: colour(colours[place]), width: 1.5, points: {show: false},
                fill: colour(`${colours[place]}-fill`), paths: uPlot.paths.stepped({align: 1}),
            })),
        ],
        cursor: {drag: {x: false, y: false}},
        hooks: {draw: [it => all.forEach((each, place) => drawMean(it, each.mean, colour(colours[place])))]},
    }, [edges, ...found], $("histogram"));
}

/** Draw where a mean lies. */
function drawMean(it, mean, stroke) {
    const {ctx, bbox: {top, height: high}} = it, x = it.valToPos(mean, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.setLineDash([6 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + high);
    ctx.stroke();
    ctx.restore();
}

listeners.push(fresh => {
    if (fresh.has("data") || fresh.has("curve")) drawAgainst();
    if (["data", "curve", "column", "against"].some(it => fresh.has(it))) drawPair();
});
$("against").onchange = event => show({against: Number(event.target.value)});
new ResizeObserver(() => bars?.setSize({width: $("histogram").clientWidth, height: 180})).observe($("histogram"));
