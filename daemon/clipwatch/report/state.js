"use strict";
// What is shown, and what is asked of the numbers. Every text goes in as text, never as markup.

const $ = id => document.getElementById(id);
let DATA = null;  // what the page shows, see load()
const state = {
    curve: 0, column: 0, against: 0, prompt: 0, image: 0,  // `against` is a checkpoint's id
    rows: "prompt", columns: "checkpoint", sort: "order", category: "", find: "",
    measure: "mean", extremes: false, likeness: "",
};
const listeners = [];

/** Change what is shown; every part of the page hears which values are new. */
function show(values) {
    const fresh = new Set(Object.keys(values).filter(key => state[key] !== values[key]));
    Object.assign(state, values);
    if (fresh.size) tell(fresh);
}

function tell(fresh) {
    for (const listener of listeners) listener(fresh);
}

/** Return by what a curve, and a checkpoint of it, is known again in newer data. */
const curveKey = it => JSON.stringify([it.run, it.digest, it.scorer]);
const checkpointKey = it => JSON.stringify([it.step, it.name]);

/** Show other data than before. What the reader has chosen stays chosen, where it is still there.
 *
 * `images` are by curve, checkpoint, prompt and number; without them they stand in the page.
 */
function load(data, images = null) {
    const earlier = DATA && {curve: curve(), column: shown(), against: against(), prompt: curve().prompts[state.prompt]};
    DATA = data;
    given = images;
    kept.clear();
    DATA.curves = data.curves.map(it => it.like === undefined ? it : {...data.curves[it.like], ...it});
    for (const [place, of] of DATA.curves.entries()) {
        of.place = place;
        of.checkpoints.forEach((it, column) => Object.assign(it, {of, column, id: of.first + column}));
    }
    const find = it => DATA.curves.find(of => curveKey(of) === curveKey(it.of))
        ?.checkpoints.find(other => checkpointKey(other) === checkpointKey(it));
    const place = earlier ? DATA.curves.findIndex(it => curveKey(it) === curveKey(earlier.curve)) : -1;
    if (place < 0) {
        begin(0);
    } else {
        const {category, find: words, image} = state;
        begin(place, {category, find: words, image});
        const [column, other] = [find(earlier.column), find(earlier.against)];
        const prompt = curve().prompts.findIndex(it => it.id === earlier.prompt.id);
        if (column) state.column = column.column;
        if (other) state.against = other.id;
        if (prompt >= 0) state.prompt = prompt;
    }
    tell(new Set(place < 0 ? ["data", "curve"] : ["data"]));
}

/** Choose a curve: at first its best beside the base. */
function begin(place, values = {}) {
    state.curve = place;
    const {checkpoints: columns, best, first} = curve();
    const base = columns.findIndex(it => it.base);
    Object.assign(state, {column: best ?? columns.length - 1, against: first + Math.max(base, 0), prompt: 0, image: 0,
        category: "", find: "", ...values});
}

/** Go over to a checkpoint that may be of another curve; what it is compared with stays. */
function moveTo(it, {prompt = state.prompt, image = state.image} = {}) {
    if (it.of === curve()) return show({column: it.column, prompt, image});
    const other = against();
    const own = counterpart(other.of, other, it.of.scorer) ?? it.of.checkpoints[0];
    Object.assign(state, {prompt: Math.max(0, promptIn(it.of, prompt)), image});
    Object.assign(state, {curve: it.of.place, column: it.column, against: own.id});
    return tell(new Set(["data"]));
}

/** Make an element with a text or children; `attributes` are set as they are. */
function make(tag, attributes = {}, ...children) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name === "onclick") found.onclick = value;
        else if (value !== null && value !== false) found.setAttribute(name, value === true ? "" : value);
    }
    found.append(...children);
    return found;
}

const curve = () => DATA.curves[state.curve];
const checkpoints = () => curve().checkpoints;
const shown = () => checkpoints()[state.column];
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const unique = values => [...new Set(values)];

/** Return the curves by the scorer that is chosen. */
const beside = () => DATA.curves.filter(it => it.scorer === curve().scorer);

/** Return the checkpoint of any curve that all are compared with. */
function against() {
    const of = DATA.curves.findLast(it => it.first <= state.against);
    return of.checkpoints[state.against - of.first];
}

/** Whether scores of two may be compared: they differ in a LoRA's strength at most. */
const comparable = (a, b) => a.of.group === b.of.group && a.of.scorer === b.of.scorer;

/** Return a checkpoint's like in a curve of the same training: of the same step, null where there is none. */
function counterpart(of, like, scorer = of.scorer) {
    const there = DATA.curves.find(it => it.run === of.run && it.digest === of.digest && it.scorer === scorer);
    const same = there?.checkpoints.filter(it => it.base === like.base && (it.base || it.step === like.step)) ?? [];
    return same.find(it => it.name === like.name) ?? same.at(-1) ?? null;
}

/** Return how a checkpoint is called within its curve. */
function shortName(it) {
    if (it.base) return "base";
    if (it.of.unit === "file") return it.name;  // its number is only its place
    const twins = it.of.checkpoints.filter(other => other.step === it.step && !other.base).length > 1;
    return twins ? `@${it.step} ${it.name}` : `@${it.step}`;
}

/** Return how a checkpoint is called; of another curve with what tells it from those of this one. */
function nameOf(it) {
    const own = curve(), of = it.of;
    if (of === own) return shortName(it);
    const told = [
        of.run === own.run ? shortName(it) : `${of.run} ${shortName(it)}`,
        of.strength === own.strength || it.base ? "" : of.strength,
        of.group === own.group || of.present ? "" : `protocol ${of.digest.slice(0, 8)}`,
    ];
    return told.filter(Boolean).join(", ");
}

function told(value, digits = curve().digits) {
    return value === null ? "" : value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}

/** Write a difference with its sign. */
function signed(value) {
    const text = told(value);
    return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

const average = row => row.reduce((sum, it) => sum + it, 0) / row.length;

/** Return where a prompt of this curve stands in another one, -1 where it is not there. */
function promptIn(of, prompt) {
    if (of.group === curve().group) return prompt;  // whose prompts are the same
    of.places ??= new Map(of.prompts.map((it, place) => [`${it.id}\n${it.text}`, place]));
    const {id, text} = curve().prompts[prompt];
    return of.places.get(`${id}\n${text}`) ?? -1;
}

const rowOf = (it, prompt) => it.scores[promptIn(it.of, prompt)];

/** Return the mean of a prompt's images, null where it has no score. */
function scoreOf(it, prompt) {
    const row = rowOf(it, prompt);
    return row && row.length ? average(row) : null;
}

/** Return b less a of a prompt, as `clipwatch compare` counts: on the first images that both have. */
function differenceOf(a, b, prompt) {
    if (!comparable(a, b)) return null;
    const [first, second] = [rowOf(a, prompt), rowOf(b, prompt)];
    if (!first || !second || !first.length || !second.length) return null;
    const count = Math.min(first.length, second.length);
    return average(second.slice(0, count)) - average(first.slice(0, count));
}

/** Return on how many prompts b is higher, equal and lower, and the mean difference. */
function tally(a, b) {
    const found = {prompts: 0, delta: 0, wins: 0, ties: 0, losses: 0};
    curve().prompts.forEach((_, prompt) => {
        let difference = differenceOf(a, b, prompt);
        if (difference === null) return;
        if (Math.abs(difference) <= curve().tie) difference = 0;
        found.prompts += 1;
        found.delta += difference;
        found[difference > 0 ? "wins" : difference < 0 ? "losses" : "ties"] += 1;
    });
    found.delta /= found.prompts || 1;
    return found;
}

/** Return the prompts that gained and lost most from a to b, those of `clipwatch compare`. */
function movedMost(a, b, most = 5) {
    const all = curve().prompts
        .map((it, prompt) => ({prompt, id: it.id, by: differenceOf(a, b, prompt)}))
        .filter(it => it.by !== null)
        .sort((one, other) => other.by - one.by || (one.id < other.id ? -1 : 1));
    return {
        gained: all.slice(0, most).filter(it => it.by > curve().tie),
        lost: all.slice(-most).reverse().filter(it => -it.by > curve().tie),
    };
}

const kept = new Map();  // by curve, images that were read from the page
let given = null;

/** Return the address of an image, null where the page has none; images are read when first asked. */
function imageOf(it, prompt, image, large = false) {
    const place = it.of.like ?? it.of.place;
    if (!kept.has(place)) {
        kept.set(place, given?.[place] ?? JSON.parse($(`images-${place}`).textContent));
    }
    const found = kept.get(place)[it.at ?? it.column]?.[promptIn(it.of, prompt)]?.[image];
    if (!found) return null;
    const [before, small, wide] = DATA.images;
    return before + found + (large ? wide : small);
}

/** Return a picture, or a word where there is none. */
function picture(it, prompt, image = 0) {
    const source = it && imageOf(it, prompt, image);
    if (!source) return make("span", {class: "none"}, it ? "no image" : "not there");
    const text = `${nameOf(it)}: ${curve().prompts[prompt].text}`;
    return make("img", {src: source, alt: text, loading: "lazy", decoding: "async"});
}

function classOf(difference) {
    if (difference === null || Math.abs(difference) <= curve().tie) return "same";
    return difference > 0 ? "gain" : "loss";
}
