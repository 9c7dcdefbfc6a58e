"use strict";
// One image, large: beside itself at another checkpoint, flipped in place or wiped.

let mode = "one";  // "one", "flip" (the other is shown) or "wipe"

function openViewer() {
    if (!$("viewer").open) {
        mode = "one";
        $("viewer").showModal();
        $("viewer").focus();  // no button: Enter closes it
    }
    drawViewer();
}

function setMode(wanted) {
    if (!$("viewer").open) openViewer();
    mode = mode === wanted ? "one" : wanted;
    drawViewer();
}

function place(element, column) {
    const source = imageOf(column, state.prompt, state.image, true);
    element.hidden = !source;
    if (source && element.getAttribute("src") !== source) element.src = source;
    element.alt = `${nameOf(column)}: ${curve().prompts[state.prompt].text}`;
    return Boolean(source);
}

function drawViewer() {
    if (!$("viewer").open) return;
    const it = curve().prompts[state.prompt];
    $("text").textContent = it.text;
    const column = mode === "flip" ? state.against : state.column;
    const there = place($("under"), column);
    const both = place($("over"), state.against) && there && mode === "wipe";
    $("over").hidden = !both;
    drawWipe();
    $("wiped").hidden = mode !== "wipe";
    $("lacking").textContent = there ? "" : "no image in this page";
    $("name-left").textContent = mode === "wipe" ? nameOf(state.against) : nameOf(column);
    $("name-right").textContent = mode === "wipe" ? nameOf(state.column) : "";
    for (const button of $("modes").children) {
        button.setAttribute("aria-pressed", String({f: "flip", w: "wipe"}[button.dataset.key] === mode));
    }
    $("next-image").hidden = it.seeds.length < 2;
    drawFacts(column, it);
    $("strip").replaceChildren(...checkpoints().map((_, each) => make("button", {
        type: "button", "aria-pressed": String(each === state.column), onclick: () => show({column: each}),
    }, picture(each, state.prompt, state.image), nameOf(each))));
    $("strip").children[state.column].scrollIntoView({block: "nearest", inline: "nearest"});
}

/** Return where the image begins in the stage, and how wide it is, in pixels. */
function boxOf(image) {
    const {clientWidth, clientHeight} = $("stage");
    const width = Math.min(clientWidth, clientHeight * image.naturalWidth / image.naturalHeight || clientWidth);
    return {left: (clientWidth - width) / 2, width};
}

function drawWipe() {
    const {left, width} = boxOf($("over"));
    const right = $("stage").clientWidth - left - width * $("wipe").value / 100;
    $("over").style.clipPath = `inset(0 ${right}px 0 0)`;
}

function drawFacts(column, it) {
    const base = checkpoints().findIndex(each => each.base);
    const before = column - 1;
    const change = (name, other) => {
        const difference = differenceOf(other, column, state.prompt);
        return difference === null ? [] : [[name, signed(difference), classOf(difference)]];
    };
    const row = checkpoints()[column].scores[state.prompt];
    const rows = [
        ["Checkpoint", [nameOf(column), checkpoints()[column].mark].filter(Boolean).join(", "), ""],
        ["Score", row && row.length > state.image ? told(row[state.image]) : "none", ""],
        ...(row && row.length > 1 ? [["Mean of the prompt", told(average(row)), ""]] : []),
        ...(base >= 0 && base !== column ? change("Change to the base", base) : []),
        ...(before >= 0 && before !== base ? change(`Change to ${nameOf(before)}`, before) : []),
        ["Seed", it.seeds[state.image], ""],
        ...(it.seeds.length > 1 ? [["Image", `${state.image + 1} of ${it.seeds.length}`, ""]] : []),
        ...(it.category ? [["Category", it.category, ""]] : []),
        ["Prompt", it.id, ""],
    ];
    $("facts").replaceChildren(...rows.map(([name, value, kind]) =>
        make("tr", {}, make("th", {}, name), make("td", {class: kind}, value))));
}

$("wipe").addEventListener("input", drawWipe);
$("over").addEventListener("load", drawWipe);
$("stage").addEventListener("pointermove", event => {
    const {left, width} = boxOf($("over"));
    $("wipe").value = 100 * (event.clientX - $("stage").getBoundingClientRect().left - left) / width;
    drawWipe();
});
new ResizeObserver(drawWipe).observe($("stage"));
$("viewer").addEventListener("click", event => {
    if (event.target === $("viewer")) $("viewer").close();  // beside it
});
for (const button of $("modes").children) {
    button.onclick = () => pressed(button.dataset.key);
}
listeners.push(drawViewer);
