"use strict";
// Blind votes: two images of a prompt without names, and which of them somebody prefers.

const QUESTIONS = {follows: "Which follows the prompt better?", better: "Which is better?"};
const CHOICES = {1: "left", 0: "neither", 2: "right"};
let asked = null;  // the pair that is shown, null while there is none
let turn = 0;  // which question of ours is the last one

const option = ([value, text]) => make("option", {value}, text);
const side = (name, text) => make("button", {type: "button", onclick: () => vote(name)},
    make("img", {id: `ballot-${name}`, alt: text}));

document.body.append(make("dialog", {id: "ballot", "aria-label": "Blind votes", tabindex: "-1"},
    make("form", {method: "dialog"}, make("button", {"aria-label": "Close"}, "✕")),
    make("div", {class: "controls"},
        make("select", {id: "question", "aria-label": "Question"}, ...Object.entries(QUESTIONS).map(option)),
        make("label", {}, "Among ", make("select", {id: "among"}))),
    make("p", {id: "ballot-prompt", dir: "auto"}),
    make("div", {id: "ballot-images"}, side("left", "first image"), side("right", "second image")),
    make("div", {id: "ballot-choices"},
        ...[[1, "First"], [0, "No difference"], [2, "Second"]].map(([key, text]) =>
            make("button", {type: "button", onclick: () => vote(CHOICES[key])}, `${text} `, make("kbd", {}, `${key}`)))),
    make("p", {id: "ballot-said", role: "status"})));
$("votes").after(make("p", {}, make("button", {type: "button", id: "vote", onclick: openBallot}, "Vote without names")));

function openBallot() {
    const [a, b] = [against(), shown()];
    const two = a !== b && a.of.run === b.of.run ? [["two", `${nameOf(a)} and ${nameOf(b)}`]] : [];
    $("among").replaceChildren(...[["all", "all checkpoints"], ...two].map(option));
    $("ballot").showModal();
    $("ballot").focus();  // no button: Enter is no answer
    askNext();
}

/** Show the next pair; its images are there before it can be answered. */
async function askNext() {
    take(null);
    const mine = turn += 1;
    const query = new URLSearchParams({run: curve().run, question: $("question").value});
    if ($("among").value === "two") for (const it of [against(), shown()]) query.append("of", it.evaluation);
    const answer = await sent(`pair?${query}`);
    const pair = answer && await answer.json();
    if (!pair || mine !== turn) return;
    $("ballot-prompt").textContent = pair.prompt ?? "";
    $("ballot-images").hidden = $("ballot-choices").hidden = !pair.pair;
    $("ballot-said").textContent = pair.pair ? `${pair.votes} so far` : `${pair.votes}: ${pair.why}`;
    if (!pair.pair) return;
    await Promise.all(["left", "right"].map(name => new Promise(done => {
        const image = $(`ballot-${name}`);
        image.onload = image.onerror = done;
        image.src = `pairs/${pair.pair}/${name}`;
    })));
    if (mine === turn) take(pair);
}

/** Let a pair be answered; null for none, until the next one is there. */
function take(pair) {
    asked = pair;
    for (const it of $("ballot-choices").children) it.setAttribute("aria-disabled", String(!pair));
}

async function vote(choice) {
    if (!asked) return;
    const body = JSON.stringify({pair: asked.pair, choice});
    take(null);
    const headers = {"Content-Type": "application/json", "X-Clipwatch-Token": DATA.live.token};
    if (await sent("vote", {method: "POST", headers, body})) askNext();
}

/** Return an answer, null where there is none or it says no; what it says is shown. */
async function sent(address, options = {}) {
    try {
        const answer = await fetch(address, options);
        if (answer.ok) return answer;
        $("ballot-said").textContent = await answer.text();
    } catch {
        $("ballot-said").textContent = "clipwatch serve has ended: this vote is not kept";
    }
    return null;
}

$("ballot").addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in CHOICES)) return;
    event.preventDefault();
    vote(CHOICES[event.key]);
});
for (const id of ["question", "among"]) $(id).onchange = askNext;
