"use strict";
// The view as one picture: its rows in sight, with their columns, what they are and their scores.

const PICTURE = {cell: 256, beside: 240, gap: 8, head: 34, score: 24, line: 19};

/** Return rows of cells as the gallery shows them: those in sight, cards as they lie. */
function viewInSight() {
    const {scrollTop, clientHeight} = $("scroller"), high = lineHeight(), each = across(), values = rowValues();
    const first = Math.ceil(scrollTop / high - 0.2);
    const last = Math.max(first + 1, Math.floor((scrollTop + clientHeight - headHeight()) / high + 0.2));
    const rows = [];
    for (let place = first; place < last && place * each < values.length; place += 1) {
        rows.push(values.slice(place * each, (place + 1) * each));
    }
    if (!asCards()) {
        return {heads: headsOf(), rows: rows.map(([value]) => (
            {text: AXES[state.rows].label(value), cells: cellsOf(value)}))};
    }
    const label = value => AXES[state.rows].label(value);
    return {heads: [], rows: rows.map(all => (
        {text: "", cells: all.map(it => ({...AXES[state.rows].apply(chosenCell(), it), text: label(it)}))}))};
}

/** Return an image that can be drawn, null where there is none. */
async function drawable(cell) {
    const it = checkpointOf(cell);
    const source = it && imageOf(it, cell.prompt, Math.min(cell.image, curve().prompts[cell.prompt].seeds.length - 1), true);
    if (!source) return null;
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
}

/** Write a text into a box, in as many lines as fit; the last ends in an ellipsis where more is left. */
function writeText(ctx, text, left, top, width, most) {
    const rtl = /^[^\p{L}]*[\p{Script=Arabic}\p{Script=Hebrew}]/u.test(text);
    ctx.direction = rtl ? "rtl" : "ltr";
    ctx.textAlign = rtl ? "right" : "left";
    const found = [];
    let line = "";
    for (const word of text.split(/\s+/)) {
        const longer = line ? `${line} ${word}` : word;
        if (line && ctx.measureText(longer).width > width) {
            found.push(line);
            line = word;
        } else {
            line = longer;
        }
    }
    found.push(line);
    if (found.length > most) found[most - 1] = `${found[most - 1]} …`;
    found.slice(0, most).forEach((it, place) =>
        ctx.fillText(it, rtl ? left + width : left, top + place * PICTURE.line, width));
}

/** Draw one cell: its image, and its numbers below. */
function drawCell(ctx, cell, image, left, top) {
    const {cell: side} = PICTURE, it = checkpointOf(cell);
    ctx.fillStyle = colour("--box");
    ctx.fillRect(left, top, side, side);
    if (image) {
        const scale = side / Math.max(image.naturalWidth, image.naturalHeight);
        const [width, high] = [image.naturalWidth * scale, image.naturalHeight * scale];
        ctx.drawImage(image, left + (side - width) / 2, top + (side - high) / 2, width, high);
    }
    const {score, difference, change} = numbersOf(it, cell.prompt, cell.image);
    ctx.fillStyle = colour("--text");
    writeText(ctx, image ? score : `${score} (no image)`, left, top + side + 17, side, 1);
    const width = ctx.measureText(`${score}  `).width;
    ctx.fillStyle = colour({gain: "--gain", loss: "--loss", same: "--soft"}[classOf(difference)]);
    writeText(ctx, change, left + width, top + side + 17, side - width, 1);
    ctx.fillStyle = colour("--soft");
    if (cell.text) writeText(ctx, cell.text, left, top + side + 17 + PICTURE.line, side, 2);
}

/** Return the view as a canvas, labelled: which run, what is fixed, rows, columns, scores. */
async function pictureOfView() {
    const {heads, rows} = viewInSight();
    const {cell, beside: side, gap, head, score, line} = PICTURE;
    const cards = asCards(), left = cards ? gap : side + 2 * gap;
    const most = Math.max(1, ...rows.map(it => it.cells.length));
    const high = cell + score + gap + (cards ? 2 * line : 0);
    const top = 2 * line + gap + (cards ? 0 : head) + gap;
    const images = await Promise.all(rows.map(row => Promise.all(row.cells.map(drawable))));
    const canvas = make("canvas", {width: Math.max(640, left + most * (cell + gap)), height: top + rows.length * high + gap});
    const ctx = canvas.getContext("2d");
    ctx.fillStyle = colour("--page");
    ctx.fillRect(0, 0, canvas.width, canvas.height);
    ctx.fillStyle = colour("--text");
    ctx.font = "bold 15px system-ui, sans-serif";
    writeText(ctx, titleOf(curve()), gap, line, canvas.width - 2 * gap, 1);
    ctx.font = "14px system-ui, sans-serif";
    const fixed = [...fixedText(), `scores by ${curve().scored_by}, changes to ${nameOf(against())}`];
    writeText(ctx, fixed.join(" · "), gap, 2 * line, canvas.width - 2 * gap, 1);
    heads.forEach((it, place) => {
        ctx.fillStyle = colour(it.mark ? "--best" : "--text");
        writeText(ctx, [it.text, it.mean, it.mark].filter(Boolean).join(" "), left + place * (cell + gap), 2 * line + gap + 20, cell, 1);
    });
    rows.forEach((row, place) => {
        const y = top + place * high;
        ctx.fillStyle = colour("--text");
        if (row.text) writeText(ctx, row.text, gap, y + 17, side, Math.floor(cell / line));
        row.cells.forEach((it, column) => drawCell(ctx, it, images[place][column], left + column * (cell + gap), y));
    });
    return canvas;
}

/** Save the view; a browser gives no picture of images that lie beside a page opened from a file. */
async function saveView() {
    $("saved").textContent = "";
    try {
        const canvas = await pictureOfView();
        const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
        const link = make("a", {download: `${curve().run}.png`, href: URL.createObjectURL(blob)});
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
        const part = columnValues().length > WIDE ? `, of ${columnCount()} columns those in sight` : "";
        $("saved").textContent = `saved: ${canvas.width} × ${canvas.height} pixels${part}`;
    } catch (error) {
        $("saved").textContent = error.name === "SecurityError"
            ? "The browser lets no page read images beside it in a folder: make the page without --assets."
            : `not saved: ${error.message}`;
    }
}

$("save").onclick = saveView;
