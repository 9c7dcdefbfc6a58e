"use strict";
// The images. Only the lines that are in sight exist, so any number of prompts will do.

const CARD = 150, BESIDE = 2;  // pixels of a card at least; lines kept out of sight
const WIDE = 40;  // of more columns only those in sight exist, too
let order = [];  // prompts, as filtered and sorted
const lines = new Map();

const asCards = () => state.columns === "";
/** The base has a column of its own, where checkpoints lie along neither axis. */
const withBase = () => !asCards() && ![state.rows, state.columns].includes("checkpoint") && checkpoints()[0].base;
const rowValues = () => AXES[state.rows].values();
const columnValues = () => asCards() ? [] : AXES[state.columns].values();
const columnCount = () => columnValues().length + (withBase() ? 1 : 0);
const across = () => asCards() ? Math.max(1, Math.floor($("scroller").clientWidth / CARD)) : 1;
const cardWidth = () => Math.floor($("scroller").clientWidth / across());
const lineHeight = () => asCards() ? cardWidth() + 84 : cellWidth() + 26;
const besideWidth = () => parseInt(getComputedStyle($("scroller")).getPropertyValue("--beside"), 10);
const baseFirst = () => withBase() || (state.columns === "checkpoint" && checkpoints()[0].base);
/** The base stays in sight beside the head of the row, where there is room. */
const fixedWidth = () => besideWidth() + (matchMedia("(min-width: 900px)").matches && baseFirst() ? cellWidth() : 0);
/** Few columns have larger images. */
const cellWidth = () => Math.floor(clamp(($("scroller").clientWidth - besideWidth()) / columnCount(), 132, 230));
const headHeight = () => asCards() ? 0 : $("head").offsetHeight;

/** Return what prompts are sorted by, higher first; null comes last. */
function valueOf(prompt) {
    const difference = differenceOf(against(), shown(), prompt);
    const score = scoreOf(shown(), prompt);
    const turned = value => value === null ? null : -value;
    switch (state.sort) {
    case "gain": return difference;
    case "loss": return turned(difference);
    case "high": return score;
    case "low": return turned(score);
    case "spread": {
        const scores = checkpoints().map(it => scoreOf(it, prompt)).filter(it => it !== null);
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

/** Offer the axes that there are. */
function drawAxes() {
    const names = axes();
    if (!names.includes(state.rows)) state.rows = names.find(it => it !== state.columns);
    if (!names.includes(state.columns) && !asCards()) state.columns = names.find(it => it !== state.rows);
    for (const [id, more] of [["rows", []], ["columns", [make("option", {value: ""}, "all that fit")]]]) {
        $(id).replaceChildren(...names.map(it => make("option", {value: it}, AXES[it].title)), ...more);
        $(id).value = state[id];
    }
    $("swap").disabled = asCards();
    $("fixed").textContent = fixedText().join(" · ");
}

/** Choose what lies along an axis; what lay there goes to the other one, if that had it. */
function chooseAxis(id, name) {
    const other = id === "rows" ? "columns" : "rows";
    const left = state[other] === name ? {[other]: state[id] || axes().find(it => it !== name)} : {};
    show({[id]: name, ...left});
}

/** Draw anew all that is in sight. */
function drawGallery() {
    $("lines").replaceChildren();
    lines.clear();
    drawAxes();
    $("scroller").style.setProperty("--cell", `${cellWidth()}px`);
    drawHead();
    $("lines").style.height = `${Math.ceil(rowValues().length / across()) * lineHeight()}px`;
    $("lines").style.width = asCards() ? "100%" : `${besideWidth() + columnCount() * cellWidth()}px`;
    drawLines();
}

/** Return the columns that exist, from the first to before the last: of very many those in sight. */
function columnsInSight() {
    const count = columnValues().length;
    if (count <= WIDE) return [0, count];
    const {scrollLeft, clientWidth} = $("scroller");
    const first = clamp(Math.floor(scrollLeft / cellWidth()) - BESIDE, 0, count);
    return [first, Math.min(count, first + Math.ceil(clientWidth / cellWidth()) + 2 * BESIDE)];
}

let drawn = [];  // the columns that the lines have

/** Make the lines that came into sight, and drop those that left. */
function drawLines() {
    const scroller = $("scroller"), high = lineHeight(), each = across(), values = rowValues();
    const sight = columnsInSight();
    if (sight.join() !== drawn.join()) {
        drawn = sight;
        $("lines").replaceChildren();
        lines.clear();
        drawHead();
    }
    const first = Math.max(0, Math.floor(scroller.scrollTop / high) - BESIDE);
    const last = Math.min(Math.ceil(values.length / each),
        Math.ceil((scroller.scrollTop + scroller.clientHeight) / high) + BESIDE);
    for (const [place, line] of lines) {
        if (place < first || place >= last) {
            line.remove();
            lines.delete(place);
        }
    }
    for (let place = first; place < last; place += 1) {
        if (lines.has(place)) continue;
        const line = asCards()
            ? make("div", {class: "line"}, ...values.slice(place * each, (place + 1) * each).map(cardOf))
            : lineOf(values[place]);
        line.style.top = `${place * high}px`;
        line.style.height = `${high}px`;
        lines.set(place, line);
        $("lines").append(line);
    }
}

/** Return the cells of a row: the base's first, where it has a column of its own. */
function cellsOf(value) {
    const cell = AXES[state.rows].apply(chosenCell(), value);
    const found = columnValues().slice(...drawn).map(it => AXES[state.columns].apply(cell, it));
    return withBase() ? [{...cell, like: checkpoints()[0]}, ...found] : found;
}

/** Return what stands above the columns, as texts; and what a click on it does. */
function headsOf() {
    const axis = AXES[state.columns];
    const heads = columnValues().slice(...drawn).map(value => ({
        text: axis.label(value), current: value === axis.now(), choose: () => axis.choose(value),
        base: Boolean(value.base), mean: value.of ? told(value.mean) : "", mark: value.mark ?? "",
    }));
    const base = {text: "base", current: false, base: true, mean: "", mark: "", choose: () => show({column: 0})};
    return withBase() ? [base, ...heads] : heads;
}

/** Put the room of the columns that do not exist before those that do. */
function spaced(parts) {
    const space = make("i", {class: "gap"});
    space.style.flexBasis = `${drawn[0] * cellWidth()}px`;
    const fixed = withBase() ? 1 : 0;
    return drawn[0] ? [...parts.slice(0, fixed), space, ...parts.slice(fixed)] : parts;
}

function drawHead() {
    if (asCards()) return $("head").replaceChildren();
    const heads = headsOf().map(it => make("button", {
        type: "button", class: `column ${it.base ? "base" : ""}`, "aria-pressed": String(it.current),
        title: it.text, onclick: it.choose,
    }, make("b", {dir: "auto"}, it.text), it.mean ? ` ${it.mean}` : "", it.mark ? make("i", {}, it.mark) : ""));
    return $("head").replaceChildren(make("div", {class: "corner"}, AXES[state.rows].title), ...spaced(heads));
}

/** Return what stands beside a row. */
function besideOf(value) {
    const axis = AXES[state.rows];
    const small = state.rows === "prompt" ? curve().prompts[value].category
        : value.of ? [told(value.mean), value.mark].filter(Boolean).join(", ") : "";
    return make("div", {class: "prompt"}, make("p", {dir: "auto", title: axis.label(value)}, axis.label(value)),
        make("small", {}, small));
}

/** Return the attributes by which a line is known, and whether it is the chosen one. */
const known = value => ({
    [`data-${state.rows}`]: state.rows === "checkpoint" ? value.column : value,
    "data-current": String(value === AXES[state.rows].now()),
});

function lineOf(value) {
    const cells = cellsOf(value).map(it => cellOf(it, false));
    return make("div", {class: "line", ...known(value)}, besideOf(value), ...spaced(cells));
}

/** Return the card of a row: its image alone. */
function cardOf(value) {
    const text = AXES[state.rows].label(value);
    const card = make("div", {class: "card", ...known(value)},
        cellOf(AXES[state.rows].apply(chosenCell(), value), true), make("p", {dir: "auto", title: text}, text));
    card.style.width = `${cardWidth()}px`;
    return card;
}

/** Return the numbers under an image, and how they differ from `against`: its prompt's, or its own beside others. */
function numbersOf(it, prompt, image) {
    const one = [state.rows, state.columns].includes("image");
    const of = each => one ? rowOf(each, prompt)?.[image] ?? null : scoreOf(each, prompt);
    let difference = null;
    if (it && it !== against() && comparable(it, against())) {
        const [first, second] = [of(against()), of(it)];
        difference = !one ? differenceOf(against(), it, prompt) : first === null || second === null ? null : second - first;
    }
    return {score: (it && told(of(it))) || "–", difference, change: difference === null ? "" : ` ${signed(difference)}`};
}

function cellOf(cell, alone) {
    const {prompt} = cell, it = checkpointOf(cell);
    const image = Math.min(cell.image, curve().prompts[prompt].seeds.length - 1);
    const {score, difference, change} = numbersOf(it, prompt, image);
    return make("button", {
        type: "button", class: `cell ${it?.base ? "base" : ""}`, "data-column": it && it.column,
        "aria-pressed": String(!alone && it === shown() && state.columns === "checkpoint"),
        disabled: !it,
        onclick: () => { moveTo(it, {prompt, image}); openViewer(); },
    }, picture(it, prompt, image), make("span", {class: "score"}, score, make("em", {class: classOf(difference)}, change)));
}

/** Bring what is chosen into sight. */
function reveal() {
    const scroller = $("scroller"), place = Math.floor(rowValues().indexOf(AXES[state.rows].now()) / across());
    if (place >= 0) {
        const top = place * lineHeight(), sight = scroller.clientHeight - headHeight();
        if (top < scroller.scrollTop) scroller.scrollTop = top;
        else if (top + lineHeight() > scroller.scrollTop + sight) scroller.scrollTop = top + lineHeight() - sight;
    }
    const column = asCards() ? -1 : columnValues().indexOf(AXES[state.columns].now());
    if (column >= 0) {
        const left = besideWidth() + (column + (withBase() ? 1 : 0)) * cellWidth(), right = left + cellWidth();
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
    const has = (...names) => names.some(it => fresh.has(it));
    const sorted = has("data", "curve", "sort", "category", "find")
        || (state.sort !== "order" && state.sort !== "spread" && has("column", "against"));
    if (sorted) choosePrompts();
    if (has("rows", "columns")) $("scroller").scrollTo(0, 0);
    else if (sorted && !has("data", "column", "against")) $("scroller").scrollTop = 0;
    drawGallery();
    if (has("curve", "column", "prompt", "rows", "columns")) reveal();
});
for (const id of ["rows", "columns"]) $(id).onchange = event => chooseAxis(id, event.target.value);
$("swap").onclick = () => show({rows: state.columns, columns: state.rows});
$("scroller").addEventListener("scroll", drawLines, {passive: true});
let seen = 0;
new ResizeObserver(() => {
    if ($("scroller").clientWidth !== seen && DATA) drawGallery();
    seen = $("scroller").clientWidth;
}).observe($("scroller"));
