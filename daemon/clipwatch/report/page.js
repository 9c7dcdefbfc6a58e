"use strict";
// The page around the chart and the images: what is chosen, what is said, and the keys.

/** Return a head and its rows for a table. */
function table(head, rows) {
    const line = (cells, tag) => make("tr", {}, ...cells.map(it => make(tag, {}, it)));
    return [make("thead", {}, line(head, "th")), make("tbody", {}, ...rows.map(it => line(it, "td")))];
}

const pairs = object => Object.entries(object).map(([key, value]) =>
    make("tr", {}, make("th", {}, key), make("td", {dir: "auto"}, value)));

function titleOf(it) {
    return `${it.run}, ${it.present ? "present settings" : `protocol ${it.digest}`}`
        + (it.strength ? `, ${it.strength}` : "");
}

function drawCurve() {
    const it = curve();
    const counted = it.checkpoints.filter(each => !each.base).length;
    $("about").textContent = `${it.run} in ${it.directory}: ${counted} checkpoints scored on `
        + `${it.prompts.length} prompts, protocol ${it.digest}.`;
    $("sentences").replaceChildren(...paragraphs(it.verdict));
    for (const zone of document.querySelectorAll(".zone")) zone.hidden = !it.zones;
    $("no-zone").hidden = it.zones;
    $("ranked").replaceChildren(...(it.ranked.length ? table(it.ranked[0], it.ranked.slice(1)) : []));
    $("votes").replaceChildren(...it.votes.flatMap(({sentences: [head, ...others], rows: [titles, ...rows]}) => [
        make("h3", {}, `Blind votes. ${head}`), ...paragraphs(others),
        make("details", {}, make("summary", {}, "All checkpoints by votes"),
            make("div", {class: "wide"}, make("table", {class: "votes"}, ...table(titles, rows)))),
    ]));
    $("advice").replaceChildren(...it.advice.map(each =>
        make("li", {}, make("b", {}, `${it.unit} ${each.step}: ${each.kind}`), ` ${each.text}`)));
    $("column").max = it.checkpoints.length - 1;
    $("categories").hidden = !categories().length;
    $("category").replaceChildren(make("option", {value: ""}, "all"),
        ...categories().map(each => make("option", {value: each}, each)));
    if (!categories().includes(state.category)) state.category = "";
    for (const id of ["category", "find"]) $(id).value = state[id];
    $("left-out").textContent = it.left_out;
    drawRest(it);
}

/** Say how it was made, and what was not. */
function drawRest(it) {
    const earlier = it.changed.length
        ? [`These are scores from before the settings or model files changed (${it.changed.join("; ")}).`] : [];
    const cut = Math.max(0, ...it.checkpoints.map(each => each.truncated));
    const long = cut ? [`${cut} ${cut === 1 ? "prompt is" : "prompts are"} longer than the scorer can read: the rest has no part in the score.`] : [];
    $("notes").replaceChildren(...paragraphs([...earlier, ...it.notes, ...long, ...it.skipped]));
    $("unscored").replaceChildren(...(it.unscored.length ? [
        make("h3", {}, "Checkpoints without a score"),
        make("div", {class: "wide"}, make("table", {}, ...table([it.unit, "checkpoint", "state", "why"],
            it.unscored.map(each => [each.step, each.name, each.state === "discarded" ? "left out" : each.state, each.reason])))),
    ] : []));
    $("protocol").replaceChildren(...pairs(it.protocol));
    $("environment").replaceChildren(...pairs(it.environment));
}

const KEYS = {
    ArrowUp: () => show({column: clamp(state.column - 1, 0, checkpoints().length - 1)}),
    ArrowDown: () => show({column: clamp(state.column + 1, 0, checkpoints().length - 1)}),
    ArrowLeft: () => stepPrompt(-1),
    ArrowRight: () => stepPrompt(1),
    Home: () => show({column: 0}),
    End: () => show({column: checkpoints().length - 1}),
    Enter: () => $("viewer").open ? $("viewer").close() : openViewer(),
    b: () => curve().best === null || show({column: curve().best}),
    f: () => setMode("flip"),
    w: () => setMode("wipe"),
    i: () => show({image: (state.image + 1) % curve().prompts[state.prompt].seeds.length}),
    x: () => $("swap").click(),
    s: () => saveView(),
    "[": () => wipe(-5),
    "]": () => wipe(5),
    "/": () => { $("viewer").close(); $("find").focus(); },
    "?": () => $("keys").open ? $("keys").close() : ($("keys").showModal(), $("keys").focus()),
};
const SCROLLING = /^(Arrow|Home|End)/;

function wipe(by) {
    $("wipe").value = clamp(Number($("wipe").value) + by, 0, 100);
    drawWipe();
}

function pressed(key) {
    const action = KEYS[key.length === 1 ? key.toLowerCase() : key];
    if (action) action();
    return Boolean(action);
}

document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=range], [type=checkbox]), select")) return;
    if (event.target === $("wipe") && SCROLLING.test(event.key)) return;
    if ($("ballot")?.open) return;  // which has keys of its own
    if ($("keys").open && event.key !== "?") return;
    if (event.key === "Enter" && event.target.matches("button, summary, a")) return;
    const {top, bottom} = $("explore").getBoundingClientRect();
    const sight = $("viewer").open || (top < innerHeight * 0.7 && bottom > 0);
    if (SCROLLING.test(event.key) && !sight) return;  // the page is scrolled as any other
    if (pressed(event.key)) event.preventDefault();
});

/** Offer the curves: runs under their protocols, and by which scorer they are seen. */
function drawChoice() {
    const known = DATA.curves.filter(it => it.like === undefined);
    const mine = DATA.curves.filter(it => (it.like ?? it.place) === (curve().like ?? curve().place));
    $("curve").replaceChildren(...known.map(it => make("option", {value: it.place}, titleOf(it))));
    $("curve").value = curve().like ?? curve().place;
    $("choice").hidden = known.length < 2;
    $("scorer").replaceChildren(...mine.map(it => make("option", {value: it.place}, it.scored_by)));
    $("scorer").value = state.curve;
    $("scorers").hidden = mine.length < 2;
}

$("curve").onchange = event => {
    begin(Number(event.target.value));
    tell(new Set(["curve"]));
};
$("scorer").onchange = event => goTo(DATA.curves[event.target.value]);
$("column").oninput = event => show({column: Number(event.target.value)});
for (const id of ["sort", "category"]) $(id).onchange = event => show({[id]: event.target.value});
$("find").oninput = event => show({find: event.target.value});
$("help").onclick = () => KEYS["?"]();
listeners.unshift(fresh => {  // before the other parts: they ask what is chosen
    if (fresh.has("data") || fresh.has("curve")) {
        drawChoice();
        drawCurve();
    }
});
if (innerWidth < 640) state.columns = "";  // a phone has no room for them
window.clipwatch = {load};  // for what brings newer data
load(JSON.parse($("data").textContent));
