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

function place(element, it) {
    const source = imageOf(it, state.prompt, state.image, true);
    element.hidden = !source;
    if (source && element.getAttribute("src") !== source) element.src = source;
    element.alt = `${nameOf(it)}: ${curve().prompts[state.prompt].text}`;
    return Boolean(source);
}

function drawViewer() {
    if (!$("viewer").open) return;
    const prompt = curve().prompts[state.prompt];
    $("text").textContent = prompt.text;
    const it = mode === "flip" ? against() : shown();
    const there = place($("under"), it);
    const both = place($("over"), against()) && there && mode === "wipe";
    $("over").hidden = !both;
    drawWipe();
    $("wiped").hidden = mode !== "wipe";
    $("lacking").textContent = there ? "" : "no image in this page";
    $("name-left").textContent = nameOf(mode === "wipe" ? against() : it);
    $("name-right").textContent = mode === "wipe" ? nameOf(shown()) : "";
    for (const button of $("modes").children) {
        button.setAttribute("aria-pressed", String({f: "flip", w: "wipe"}[button.dataset.key] === mode));
    }
    $("next-image").hidden = prompt.seeds.length < 2;
    drawFacts(it, prompt);
    $("strip").replaceChildren(...checkpoints().map(each => make("button", {
        type: "button", "aria-pressed": String(each === shown()), onclick: () => moveTo(each),
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

/** Return what a prompt's image has by further scorers, with their names. */
function furtherScores(it) {
    return DATA.curves
        .filter(of => of.run === it.of.run && of.digest === it.of.digest && of.scorer !== it.of.scorer)
        .map(of => {
            const same = counterpart(of, it);  // a scorer that came later lacks some
            const score = same ? rowOf(same, state.prompt)?.[state.image] : undefined;
            return [`By ${of.scored_by}`, score === undefined ? "none" : told(score, of.digits), ""];
        });
}

function drawFacts(it, prompt) {
    const base = it.of.checkpoints.find(each => each.base);
    const before = it.of.checkpoints[it.column - 1];
    const change = other => {
        const difference = other && other !== it ? differenceOf(other, it, state.prompt) : null;
        const name = other?.base ? "the base" : other && nameOf(other);
        return difference === null ? [] : [[`Change to ${name}`, signed(difference), classOf(difference)]];
    };
    const row = rowOf(it, state.prompt);
    const rows = [
        ["Checkpoint", [nameOf(it), it.mark].filter(Boolean).join(", "), ""],
        ["Score", row && row.length > state.image ? told(row[state.image]) : "none", ""],
        ...(row && row.length > 1 ? [["Mean of the prompt", told(average(row)), ""]] : []),
        ...furtherScores(it),
        ...unique([base, before, it === against() ? null : against()]).flatMap(change),
        ["Seed", prompt.seeds[state.image], ""],
        ...(prompt.seeds.length > 1 ? [["Image", `${state.image + 1} of ${prompt.seeds.length}`, ""]] : []),
        ...(prompt.category ? [["Category", prompt.category, ""]] : []),
        ["Prompt", prompt.id, ""],
        ...answerRows(it, prompt),
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
