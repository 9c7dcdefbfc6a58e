"use strict";
// Which requirements of the prompts are met: what was answered to the prompts' own questions.

const WORST = 20;  // questions that are listed

/** Return a checkpoint's like in the curve by a scorer that asks questions, null where none did. */
function askedLike(it) {
    const asks = of => of.run === it.of.run && of.digest === it.of.digest && of.checkpoints.some(each => each.answers);
    const of = [it.of, ...DATA.curves].find(asks);
    const found = of ? counterpart(of, it) : null;
    return found?.answers ? found : null;
}

/** Return the answers about a prompt, over its images; none where it was not asked about. */
const answersOf = (it, prompt) => it?.answers[promptIn(it.of, prompt)] ?? [];

const share = value => nothing(value) ? "–" : value.toFixed(2);
const moved = (a, b) => nothing(a) || nothing(b) ? "" : `${b > a ? "+" : ""}${(b - a).toFixed(2).replace(/^-0\.00$/, "0.00")}`;

/** Write a mean with its interval. */
const spanned = value => nothing(value) ? "–"
    : share(value[0]) + (nothing(value[1]) ? "" : ` (${share(value[1])} to ${share(value[2])})`);

/** Return the rows of the viewer's table on one image. */
function answerRows(it, prompt) {
    const answers = answersOf(askedLike(it), state.prompt);  // of a protocol of its own
    const mean = prompt.seeds.length > 1 ? " (mean of its images)" : "";
    const questions = answers.length ? it.of.prompts[promptIn(it.of, state.prompt)].questions : [];
    return answers.map((value, at) => {
        const [question, answer] = questions[at];
        return [`${question} ${answer}`, `${share(value)}${mean}`, ""];
    });
}

function drawAsked() {
    const now = askedLike(shown()), other = askedLike(against());
    $("asked").hidden = !now;
    if (!now) return;
    const before = other && other !== now && other.of.group === now.of.group ? other : null;
    $("asked-by").textContent = `How probable the right answers to the prompts' questions are, by ${now.of.scored_by}, of `
        + `${nameOf(shown())}${before ? ` beside ${nameOf(against())}` : ""}.`;
    // of other prompts two means are no change: one of both may have ended before its last
    const alike = before?.answers.every((row, prompt) => !row === !now.answers[prompt]);
    const named = Object.entries(now.skills).sort((a, b) => a[1][0] - b[1][0]);
    const rows = [
        ...named.map(([name, value]) => [name, value, before?.skills[name]]),
        ["all of them", [now.mean, now.low, now.high], before && [before.mean, before.low, before.high]],
        ["prompts as a whole (geometric means)", now.geometric, before?.geometric],
    ];
    const heads = before ? [nameOf(against()), "change"] : [];
    $("skills").replaceChildren(...table(["skill", nameOf(shown()), ...heads], rows.map(([name, value, past]) =>
        [name, spanned(value), ...(before ? [spanned(past), alike ? moved(past?.[0], value?.[0]) : ""] : [])])));
    drawIgnored(now, before, heads);
}

/** List the questions that are answered worst, each with a way to its prompt. */
function drawIgnored(now, before, heads) {
    const asked = curve().prompts.flatMap(({questions = []}, prompt) => {
        const answers = answersOf(now, prompt), past = answersOf(before, prompt);
        return questions.map((question, at) => ({prompt, question, value: answers[at], past: past[at]}));
    });
    const worst = asked.filter(it => !nothing(it.value)).sort((a, b) => a.value - b.value || a.prompt - b.prompt);
    const open = prompt => { show({prompt, image: 0}); openViewer(); };
    $("ignored").replaceChildren(...table(["question", "right answer", "skill", nameOf(shown()), ...heads, "prompt"],
        worst.slice(0, WORST).map(({prompt, question, value, past}) => [
            ...question, share(value), ...(before ? [share(past), moved(past, value)] : []),
            make("button", {type: "button", dir: "auto", onclick: () => open(prompt)}, curve().prompts[prompt].text),
        ])));
}

listeners.push(fresh => {
    if (["data", "curve", "column", "against"].some(it => fresh.has(it))) drawAsked();
});
