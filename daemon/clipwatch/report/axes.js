"use strict";
// The axes of the gallery. A cell is a prompt, a checkpoint, an image of the prompt, a run and a
// strength: two of them lie along the axes, the others are those that are chosen.

const AXES = {
    prompt: {
        title: "prompt", values: () => order, now: () => state.prompt, choose: prompt => show({prompt}),
        label: prompt => curve().prompts[prompt].text, apply: (cell, prompt) => ({...cell, prompt}),
    },
    checkpoint: {
        title: "checkpoint", values: () => checkpoints(), now: () => shown(), choose: moveTo,
        label: shortName, apply: (cell, like) => ({...cell, like}),
    },
    image: {
        title: "image of a prompt", values: () => [...Array(imageCount()).keys()], now: () => state.image,
        choose: image => show({image}), label: image => `image ${image + 1}`, apply: (cell, image) => ({...cell, image}),
    },
    run: {
        title: "run", values: () => unique(beside().map(it => it.run)), now: () => curve().run,
        choose: run => go({run}), label: run => run, apply: (cell, run) => ({...cell, run}),
    },
    strength: {
        title: "strength", values: () => unique(alike().map(it => it.strength)), now: () => curve().strength,
        choose: strength => go({strength}), label: strength => strength || "one strength", apply: (cell, strength) => ({...cell, strength}),
    },
};

const imageCount = () => curve().prompts.reduce((most, it) => Math.max(most, it.seeds.length), 1);

/** Return the curves that may be compared with this one: of several strengths or runs. */
const alike = () => beside().filter(it => it.group === curve().group);

/** Return the axes that have anything to show: prompts and checkpoints always. */
const axes = () => Object.keys(AXES).filter(name =>
    ["prompt", "checkpoint"].includes(name) || AXES[name].values().length > 1);

/** Return the cell that is chosen. */
const chosenCell = () => ({prompt: state.prompt, image: state.image, like: shown(), run: curve().run, strength: curve().strength});

/** Return the curve of a run at a strength, comparable with this one if any is. */
function curveOf({run, strength}) {
    const own = curve();
    if (own.run === run && own.strength === strength) return own;
    const there = beside().filter(it => it.run === run);
    const known = there.filter(it => it.group === own.group);
    return known.find(it => it.strength === strength) ?? (strength === own.strength ? known[0] ?? there[0] : null);
}

/** Return the checkpoint that a cell shows, null where its curve has none of that step. */
function checkpointOf(cell) {
    const of = curveOf(cell);
    return of === cell.like.of ? cell.like : of && counterpart(of, cell.like);
}

/** Go over to another run or strength, at the same step if it has that. */
function go(values) {
    const of = curveOf({...chosenCell(), ...values});
    if (of) goTo(of);
}

/** Go over to another curve, at the same step if it has that, else at its best. */
const goTo = of => moveTo(counterpart(of, shown()) ?? of.checkpoints[of.best ?? of.checkpoints.length - 1]);

/** Say what is the same in all cells. */
function fixedText() {
    const texts = {
        prompt: () => `prompt: ${curve().prompts[state.prompt].text}`,
        checkpoint: () => `checkpoint ${shortName(shown())}`,
        image: () => `image ${state.image + 1}`,
        run: () => `run ${curve().run}`,
        strength: () => curve().strength,
    };
    return axes().filter(name => name !== state.rows && name !== state.columns).map(name => texts[name]()).filter(Boolean);
}
