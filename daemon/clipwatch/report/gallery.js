"use strict";
// Prompts × checkpoints. Only the lines that are in sight exist, so any number of prompts will do.

const CARD = 150, BESIDE = 2;  // pixels of a card at least; lines kept out of sight
let order = [];  // prompts, as filtered and sorted
const lines = new Map();

const across = () => state.view === "all" ? 1 : Math.max(1, Math.floor($("scroller").clientWidth / CARD));
const cardWidth = () => Math.floor($("scroller").clientWidth / across());
const lineHeight = () => state.view === "all" ? cellWidth() + 26 : cardWidth() + 84;
const besideWidth = () => parseInt(getComputedStyle($("scroller")).getPropertyValue("--beside"), 10);
/** The base stays in sight beside the prompts, where there is room. */
const fixedWidth = () => besideWidth() + (matchMedia("(min-width: 900px)").matches && checkpoints()[0].base ? cellWidth() : 0);
/** Few checkpoints have larger images. */
const cellWidth = () => Math.floor(clamp(($("scroller").clientWidth - besideWidth()) / checkpoints().length, 132, 230));
const headHeight = () => state.view === "all" ? $("head").offsetHeight : 0;

/** Return what prompts are sorted by, higher first; null comes last. */
function valueOf(prompt) {
    const difference = differenceOf(state.against, state.column, prompt);
    const score = scoreOf(state.column, prompt);
    const turned = value => value === null ? null : -value;
    switch (state.sort) {
    case "gain": return difference;
    case "loss": return turned(difference);
    case "high": return score;
    case "low": return turned(score);
    case "spread": {
        const scores = checkpoints().map((_, it) => scoreOf(it, prompt)).filter(it => it !== null);
        return scores.length ? Math.max(...scores) - Math.min(...scores) : null;
    }
    default: return -prompt;
    }
}

function choosePrompts() {
    const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = it => (!state.category || it.category === state.category)
        && words.every(word => it.text.toLowerCase().includes(word) || it.id.toLowerCase() === word);
    order = curve().prompts
        .map((it, prompt) => ({it, prompt}))
        .filter(({it}) => wanted(it))
        .map(({prompt}) => ({prompt, value: valueOf(prompt)}))
        .sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity) || a.prompt - b.prompt)
        .map(({prompt}) => prompt);
    const all = curve().prompts.length;
    $("count").textContent = order.length === all ? `${all} prompts` : `${order.length} of ${all} prompts`;
}

/** Draw anew all that is in sight. */
function drawGallery() {
    $("lines").replaceChildren();
    lines.clear();
    $("gallery").dataset.view = state.view;
    $("scroller").style.setProperty("--cell", `${cellWidth()}px`);
    drawHead();
    const columns = checkpoints().length;
    $("lines").style.height = `${Math.ceil(order.length / across()) * lineHeight()}px`;
    $("lines").style.width = state.view === "all" ? `${besideWidth() + columns * cellWidth()}px` : "100%";
    drawLines();
}

/** Make the lines that came into sight, and drop those that left. */
function drawLines() {
    const scroller = $("scroller"), high = lineHeight(), each = across();
    const first = Math.max(0, Math.floor(scroller.scrollTop / high) - BESIDE);
    const last = Math.min(Math.ceil(order.length / each),
        Math.ceil((scroller.scrollTop + scroller.clientHeight) / high) + BESIDE);
    for (const [place, line] of lines) {
        if (place < first || place >= last) {
            line.remove();
            lines.delete(place);
        }
    }
    for (let place = first; place < last; place += 1) {
        if (lines.has(place)) continue;
        const prompts = order.slice(place * each, (place + 1) * each);
        const line = state.view === "all" ? rowOf(prompts[0]) : make("div", {class: "line"}, ...prompts.map(cardOf));
        line.style.top = `${place * high}px`;
        line.style.height = `${high}px`;
        lines.set(place, line);
        $("lines").append(line);
    }
}

function drawHead() {
    $("head").replaceChildren(...(state.view === "all" ? [
        make("div", {class: "corner"}, "prompt"),
        ...checkpoints().map((it, column) => make("button", {
            type: "button", class: `column ${it.base ? "base" : ""}`, "aria-pressed": String(column === state.column),
            onclick: () => show({column}),
        }, make("b", {}, nameOf(column)), ` ${told(it.mean)}`, it.mark ? make("i", {}, it.mark) : "")),
    ] : []));
}

/** Return a prompt's line: an image of each checkpoint. */
function rowOf(prompt) {
    const it = curve().prompts[prompt];
    const beside = make("div", {class: "prompt"}, make("p", {dir: "auto", title: it.text}, it.text),
        make("small", {}, it.category));
    const cells = checkpoints().map((_, column) => cellOf(prompt, column, false));
    return make("div", {class: "line", "data-prompt": prompt, "data-current": String(prompt === state.prompt)}, beside, ...cells);
}

/** Return a prompt's card: the image of the checkpoint that is shown. */
function cardOf(prompt) {
    const text = make("p", {dir: "auto", title: curve().prompts[prompt].text}, curve().prompts[prompt].text);
    const card = make("div", {class: "card", "data-prompt": prompt, "data-current": String(prompt === state.prompt)},
        cellOf(prompt, state.column, true), text);
    card.style.width = `${cardWidth()}px`;
    return card;
}

function cellOf(prompt, column, alone) {
    const difference = column === state.against ? null : differenceOf(state.against, column, prompt);
    return make("button", {
        type: "button", class: `cell ${checkpoints()[column].base ? "base" : ""}`, "data-column": column, "aria-pressed": String(!alone && column === state.column),
        onclick: () => { show({prompt, column}); openViewer(); },
    }, picture(column, prompt, Math.min(state.image, curve().prompts[prompt].seeds.length - 1)),
    make("span", {class: "score"}, told(scoreOf(column, prompt)) || "–",
        make("em", {class: classOf(difference)}, difference === null ? "" : ` ${signed(difference)}`)));
}

/** Bring the prompt and the checkpoint of now into sight. */
function reveal() {
    const scroller = $("scroller"), place = Math.floor(order.indexOf(state.prompt) / across());
    if (place >= 0) {
        const top = place * lineHeight(), sight = scroller.clientHeight - headHeight();
        if (top < scroller.scrollTop) scroller.scrollTop = top;
        else if (top + lineHeight() > scroller.scrollTop + sight) scroller.scrollTop = top + lineHeight() - sight;
    }
    if (state.view === "all") {
        const left = besideWidth() + state.column * cellWidth(), right = left + cellWidth();
        if (left < scroller.scrollLeft + fixedWidth()) scroller.scrollLeft = left - fixedWidth();
        else if (right > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = right - scroller.clientWidth;
    }
}

/** Go to a neighbour in the order that is shown. */
function stepPrompt(by) {
    const place = order.indexOf(state.prompt);
    const next = place < 0 ? 0 : clamp(place + by, 0, order.length - 1);
    if (order.length) show({prompt: order[next]});
}

listeners.push(fresh => {
    const sorted = fresh.has("data") || fresh.has("curve") || fresh.has("sort") || fresh.has("category") || fresh.has("find")
        || (state.sort !== "order" && state.sort !== "spread" && (fresh.has("column") || fresh.has("against")));
    if (sorted) choosePrompts();
    if (sorted && !["data", "column", "against"].some(it => fresh.has(it))) $("scroller").scrollTop = 0;
    drawGallery();
    if (fresh.has("curve") || fresh.has("column") || fresh.has("prompt")) reveal();
});
$("scroller").addEventListener("scroll", drawLines, {passive: true});
let seen = 0;
new ResizeObserver(() => {
    if ($("scroller").clientWidth !== seen && order.length) drawGallery();
    seen = $("scroller").clientWidth;
}).observe($("scroller"));
