"use strict";
// The curve, drawn by uPlot. One protocol, one curve: nothing of another is joined to it.

let plot = null;

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Return the columns of the training: all but the base. */
const trained = () => checkpoints().map((_, column) => column).filter(it => !checkpoints()[it].base);

function drawChart() {
    if (plot) plot.destroy();
    plot = null;
    const columns = trained();
    $("course").hidden = !columns.length;
    if (!columns.length) return;
    const base = checkpoints().find(it => it.base);
    const of = key => columns.map(it => checkpoints()[it][key]);
    const line = (label, name, more = {}) => ({
        label, stroke: colour(name), width: 1, points: {show: false},
        value: (_, value) => value === null || value === undefined ? "–" : told(value), ...more,
    });
    const series = [
        {label: curve().unit, value: (_, value, __, place) => place === null || place === undefined
            ? "–" : curve().unit === "file" ? nameOf(columns[place]) : value},
        line("mean", "--line", {width: 2, points: {show: true, size: 6, fill: colour("--line")}}),
        line("95 % to", "--band-edge"),
        line("95 % from", "--band-edge"),
        line("min", "--faint", {dash: [2, 4]}),
        line("max", "--faint", {dash: [2, 4]}),
    ];
    const data = [of("step"), of("mean"), of("high"), of("low"), of("min"), of("max")];
    if (base) {
        series.push(line("base", "--base", {dash: [8, 4], width: 1.5}));
        data.push(columns.map(() => base.mean));
    }
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
            {...axis, size: 60, values: (_, ticks) => ticks.map(it => told(it, 3))}],
        series,
        bands: [{series: [2, 3], fill: colour("--band")}],
        cursor: {drag: {x: true, y: false}},
        hooks: {draw: [marks], ready: [it => it.over.addEventListener("click", chosen)]},
    }, data, $("chart"));
}

const height = () => $("chart").clientWidth < 500 ? 240 : 320;

function chosen() {
    if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) {
        show({column: trained()[plot.cursor.idx]});
    }
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
    const shown = checkpoints()[state.column];
    if (!shown.base) upright(shown.step, colour("--shown"), []);
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
    for (const point of checkpoints().filter(each => each.mark)) {
        ctx.beginPath();
        ctx.arc(x(point.step), it.valToPos(point.mean, "y", true), 7 * ratio, 0, 2 * Math.PI);
        ctx.lineWidth = 2 * ratio;
        ctx.strokeStyle = colour("--best");
        ctx.fillStyle = point.mark === "best" ? colour("--best") : colour("--page");
        ctx.fill();
        ctx.stroke();
    }
    ctx.restore();
}

listeners.push(fresh => {
    if (fresh.has("curve") || fresh.has("data")) drawChart();
    else if (fresh.has("column")) plot?.redraw(false);
});
new ResizeObserver(() => plot?.setSize({width: $("chart").clientWidth, height: height()}))
    .observe($("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);
