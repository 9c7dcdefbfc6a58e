"use strict";
// The page around the chart and the images: what is chosen, what is said, and the keys.

const paragraphs = texts => texts.map(it => make("p", {}, it));

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
    $("advice").replaceChildren(...it.advice.map(each =>
        make("li", {}, make("b", {}, `${it.unit} ${each.step}: ${each.kind}`), ` ${each.text}`)));
    $("against").replaceChildren(...it.checkpoints.map((each, column) =>
        make("option", {value: column}, each.mark === "best" ? `${nameOf(column)} (best)` : nameOf(column))));
    $("column").max = it.checkpoints.length - 1;
    const categories = [...new Set(it.prompts.map(each => each.category))].filter(Boolean).sort();
    $("categories").hidden = !categories.length;
    $("category").replaceChildren(make("option", {value: ""}, "all"),
        ...categories.map(each => make("option", {value: each}, each)));
    if (!categories.includes(state.category)) state.category = "";
    for (const id of ["category", "find"]) $(id).value = state[id];
    $("left-out").textContent = it.left_out;
    const earlier = it.changed.length
        ? [`These are scores from before the settings or model files changed (${it.changed.join("; ")}).`] : [];
    $("notes").replaceChildren(...paragraphs([...earlier, ...it.notes]));
    $("unscored").replaceChildren(...(it.unscored.length ? [
        make("h3", {}, "Checkpoints without a score"),
        make("div", {class: "wide"}, make("table", {}, ...table([it.unit, "checkpoint", "state", "why"],
            it.unscored.map(each => [each.step, each.name, each.state === "discarded" ? "left out" : each.state, each.reason])))),
    ] : []));
    $("protocol").replaceChildren(...pairs(it.protocol));
    $("environment").replaceChildren(...pairs(it.environment));
}

/** Return how the sentences below call a checkpoint. */
function called(column) {
    const it = checkpoints()[column];
    if (!it.base) return nameOf(column);
    return curve().unit === "file" ? it.name : `the base @${it.step}`;
}

/** Say what `clipwatch compare` says of the two that are chosen. */
function drawPair() {
    const {against: a, column: b} = state;
    $("shown").textContent = nameOf(b) + (checkpoints()[b].mark ? `, ${checkpoints()[b].mark}` : "");
    $("column").value = b;
    $("column").setAttribute("aria-valuetext", $("shown").textContent);
    $("against").value = a;
    $("pair-head").textContent = a === b ? nameOf(b) : `From ${called(a)} (a) to ${called(b)} (b)`;
    $("moved").replaceChildren();
    if (a === b) {
        $("compared").replaceChildren(...paragraphs(["Choose another checkpoint to see what changed."]));
        return;
    }
    const said = curve().pairs[`${a} ${b}`];
    $("compared").replaceChildren(...paragraphs(said ?? counts(a, b)));
    const {gained, lost} = movedMost(a, b);
    for (const [head, found] of [["Gained most", gained], ["Lost most", lost]]) {
        if (found.length) $("moved").append(make("h3", {}, head), make("div", {class: "moves"}, ...found.map(it => moveOf(it, a, b))));
    }
}

/** Say what can be counted here, of two whose interval was not computed. */
function counts(a, b) {
    const it = tally(a, b);
    if (!it.prompts) return ["They share no scored prompt."];
    const names = [a, b].map(column => checkpoints()[column].found_by);
    return [
        `${nameOf(b)} less ${nameOf(a)} is ${told(it.delta)} on ${it.prompts} prompts: higher on `
        + `${it.wins}, equal on ${it.ties}, lower on ${it.losses}.`,
        `How sure that is: clipwatch compare ${names.join(" ")}`,
    ];
}

function moveOf({prompt, by}, a, b) {
    return make("button", {type: "button", class: "move", onclick: () => { show({prompt}); openViewer(); }},
        make("span", {class: "two"}, picture(a, prompt), picture(b, prompt)),
        make("span", {class: "score"}, make("em", {class: classOf(by)}, signed(by)),
            ` ${told(scoreOf(a, prompt))} to ${told(scoreOf(b, prompt))}`),
        make("span", {class: "words", dir: "auto"}, curve().prompts[prompt].text));
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
    if (event.target.matches("input:not([type=range]), select")) return;
    if (event.target === $("wipe") && SCROLLING.test(event.key)) return;
    if ($("keys").open && event.key !== "?") return;
    if (event.key === "Enter" && event.target.matches("button, summary, a")) return;
    const {top, bottom} = $("explore").getBoundingClientRect();
    const sight = $("viewer").open || (top < innerHeight * 0.7 && bottom > 0);
    if (SCROLLING.test(event.key) && !sight) return;  // the page is scrolled as any other
    if (pressed(event.key)) event.preventDefault();
});

function drawChoice() {
    $("curve").replaceChildren(...DATA.curves.map((it, place) => make("option", {value: place}, titleOf(it))));
    $("curve").value = state.curve;
    $("choice").hidden = DATA.curves.length < 2;
}

$("curve").onchange = event => {
    begin(Number(event.target.value));
    tell(new Set(["curve"]));
};
$("column").oninput = event => show({column: Number(event.target.value)});
$("against").onchange = event => show({against: Number(event.target.value)});
for (const id of ["view", "sort", "category"]) $(id).onchange = event => show({[id]: event.target.value});
$("find").oninput = event => show({find: event.target.value});
$("help").onclick = () => KEYS["?"]();
listeners.unshift(fresh => {  // before the other parts: they ask what is chosen
    if (fresh.has("data")) drawChoice();
    if (fresh.has("data") || fresh.has("curve")) drawCurve();
    if (["data", "curve", "column", "against"].some(it => fresh.has(it))) drawPair();
});
if (innerWidth < 640) {  // a phone has no room for columns
    state.view = "one";
    $("view").value = "one";
}
window.clipwatch = {load};  // for what brings newer data
load(JSON.parse($("data").textContent));
