"use strict";
// The curve, drawn by uPlot. One protocol, one curve: nothing of another is joined to it.

let plot = null;

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const nothing = value => value === null || value === undefined;

/** Return the columns of the training: all but the base. */
const trained = () => checkpoints().filter(it => !it.base);
const categories = () => unique(curve().prompts.map(it => it.category)).filter(Boolean).sort();

const skills = () => unique(checkpoints().flatMap(it => Object.keys(it.skills ?? {}))).sort();

/** Return a checkpoint's losses, whichever scorer's the curve is; null where it has none. */
const lossOf = it => (DATA.curves[it.of.like] ?? it.of).checkpoints[it.at ?? it.column].loss;
const noises = () => trained().some(lossOf) ? ["low noise", "mid noise", "high noise"] : [];

/** What can be drawn: of a checkpoint a value, with the ends of its interval where it has one, and how it is marked; or a line for each of some groups. */
const MEASURES = {
    mean: {title: "mean", value: it => it.mean, ends: it => [it.low, it.high], base: true, mark: it => it.mark},
    delta: {title: "mean less the base's", value: it => it.delta?.[0], ends: it => it.delta?.slice(1) ?? [null, null], mark: it => it.mark},
    categories: {title: "mean of each category", groups: () => categories(), of: (it, name) => it.categories[name]},
    skills: {title: "right answers by skill", groups: () => skills(), of: (it, name) => it.skills?.[name]?.[0]},
    loss: {title: "held-out loss, lower is better", value: it => lossOf(it)?.heldout, base: true, digits: 4,
        ends: it => [lossOf(it)?.low, lossOf(it)?.high], mark: it => lossOf(it)?.mark},
    noise: {title: "held-out loss by noise", groups: () => noises(), of: (it, name) => lossOf(it)?.[`heldout_${name.replace(" ", "_")}`], digits: 4},
    std: {title: "standard deviation of the images' scores", value: it => it.std, base: true},
    seconds: {title: "seconds for an image", value: it => it.seconds, digits: 2},
};

const measure = () => MEASURES[state.measure];
const digitsOf = it => it.digits ?? curve().digits;

/** Return the names of those that this curve has. */
const measures = () => Object.keys(MEASURES).filter(name => MEASURES[name].groups
    ? MEASURES[name].groups().length : trained().some(it => !nothing(MEASURES[name].value(it))));

function lineOfChart(label, stroke, more = {}) {
    const digits = digitsOf(measure());
    return {label, stroke, width: 1, points: {show: false}, spanGaps: true,
        value: (_, value) => nothing(value) ? "–" : told(value, digits), ...more};
}

/** Return the lines of the chosen measure, each with its numbers. */
function chartLines() {
    const columns = trained(), it = measure();
    const dots = stroke => ({width: 2, points: {show: true, size: 6, fill: stroke}});
    if (it.groups) {
        return it.groups().map((name, place, all) => {
            const stroke = `hsl(${Math.round(360 * place / all.length)} 60% ${colour("--lightness")})`;
            return [lineOfChart(name, stroke, dots(stroke)), columns.map(each => it.of(each, name) ?? null)];
        });
    }
    const of = value => columns.map(each => value(each) ?? null);
    const found = [[lineOfChart(it.title, colour("--line"), dots(colour("--line"))), of(it.value)]];
    if (it.ends) {
        found.push([lineOfChart("95 % to", colour("--band-edge")), of(each => it.ends(each)[1])],
            [lineOfChart("95 % from", colour("--band-edge")), of(each => it.ends(each)[0])]);
    }
    if (state.measure === "mean") {
        for (const name of ["min", "max"]) {
            found.push([lineOfChart(name, colour("--faint"), {dash: [2, 4], show: state.extremes}), of(each => each[name])]);
        }
    }
    if (state.measure === "loss" && columns.some(each => !nothing(lossOf(each)?.trained))) {
        const stroke = colour("--soft");
        found.push([lineOfChart("images of the training", stroke, dots(stroke)), of(each => lossOf(each)?.trained)]);
    }
    const base = it.base && checkpoints().find(each => each.base);
    const level = base ? it.value(base) : state.measure === "delta" ? 0 : null;
    if (!nothing(level)) {
        found.push([lineOfChart("base", colour("--base"), {dash: [8, 4], width: 1.5}), columns.map(() => level)]);
    }
    return found;
}

function drawChart() {
    if (plot) plot.destroy();
    plot = null;
    const columns = trained();
    $("course").hidden = !columns.length;
    if (!columns.length) return;
    drawMeasures();
    const found = chartLines();
    const series = [
        {label: curve().unit, value: (_, value, __, place) => nothing(place)
            ? "–" : curve().unit === "file" ? shortName(columns[place]) : value},
        ...found.map(([line]) => line),
    ];
    const data = [columns.map(it => it.step), ...found.map(([, numbers]) => numbers)];
    const axis = {stroke: colour("--soft"), grid: {stroke: colour("--grid"), width: 1},
        ticks: {stroke: colour("--grid"), width: 1}};
    const steps = [...data[0], ...curve().advice.map(it => it.step)];
    const [first, last] = [Math.min(...steps), Math.max(...steps)];
    const room = (last - first || first || 1) * 0.04;
    plot = new uPlot({
        width: $("chart").clientWidth, height: height(),
        scales: {x: {time: false, range: (_, low, high) =>
            low <= first && high >= last ? [first - room, last + room] : [low, high]}},
        axes: [{...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]},
            {...axis, size: 60, values: (_, ticks) => ticks.map(it => told(it, Math.min(4, decimals(ticks))))}],
        series,
        bands: measure().ends ? [{series: [2, 3], fill: colour("--band")}] : [],
        cursor: {drag: {x: true, y: false}},
        hooks: {draw: [marks], ready: [it => it.over.addEventListener("click", chosen)]},
    }, data, $("chart"));
}

/** Return with how many decimals neighbours on an axis differ. */
const decimals = ticks => ticks.length < 2 ? 3 : Math.max(0, Math.ceil(-Math.log10(ticks[1] - ticks[0]) - 1e-9));

const height = () => $("chart").clientWidth < 500 ? 240 : 320;

/** Offer what can be drawn. */
function drawMeasures() {
    const names = measures();
    if (!names.includes(state.measure)) state.measure = "mean";
    $("measure").replaceChildren(...names.map(it => make("option", {value: it}, MEASURES[it].title)));
    $("measure").value = state.measure;
    $("extremes").checked = state.extremes;
    $("extremes-choice").hidden = state.measure !== "mean";
    $("marked").hidden = !measure().mark;
    $("banded").hidden = !measure().ends;
}

function chosen() {
    if (!nothing(plot.cursor.idx)) moveTo(trained()[plot.cursor.idx]);
}

/** Draw the best, those that cannot be told from it, advice, and the checkpoint that is shown. */
function marks(it) {
    const {ctx} = it;
    const ratio = devicePixelRatio;
    const x = step => it.valToPos(step, "x", true);
    const {left, top, width, height: high} = it.bbox;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, high);
    ctx.clip();
    const upright = (step, stroke, dash) => {
        ctx.beginPath();
        ctx.setLineDash(dash.map(length => length * ratio));
        ctx.strokeStyle = stroke;
        ctx.lineWidth = 1.5 * ratio;
        ctx.moveTo(x(step), top);
        ctx.lineTo(x(step), top + high);
        ctx.stroke();
    };
    if (!shown().base) upright(shown().step, colour("--shown"), []);
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    curve().advice.forEach((advice, place) => {
        upright(advice.step, colour("--advice"), [4, 3]);
        const right = x(advice.step) > left + width * 0.8;
        ctx.textAlign = right ? "right" : "left";
        ctx.fillStyle = colour("--advice");
        const row = top + (14 + 14 * (place % 3)) * ratio;
        ctx.fillText(advice.kind, x(advice.step) + (right ? -4 : 4) * ratio, row);
    });
    ctx.setLineDash([]);
    const mark = measure().mark ?? (() => "");
    for (const point of checkpoints().filter(mark)) {
        const value = measure().value(point);
        if (nothing(value)) continue;
        ctx.beginPath();
        ctx.arc(x(point.step), it.valToPos(value, "y", true), 7 * ratio, 0, 2 * Math.PI);
        ctx.lineWidth = 2 * ratio;
        ctx.strokeStyle = colour("--best");
        ctx.fillStyle = mark(point) === "best" ? colour("--best") : colour("--page");
        ctx.fill();
        ctx.stroke();
    }
    ctx.restore();
}

listeners.push(fresh => {
    if (["data", "curve", "measure", "extremes"].some(it => fresh.has(it))) drawChart();
    else if (fresh.has("column")) plot?.redraw(false);
});
$("measure").onchange = event => show({measure: event.target.value});
$("extremes").onchange = event => show({extremes: event.target.checked});
new ResizeObserver(() => plot?.setSize({width: $("chart").clientWidth, height: height()}))
    .observe($("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawChart(); drawHistogram(); });
