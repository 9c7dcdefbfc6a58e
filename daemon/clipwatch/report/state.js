"use strict";
// What is shown, and what is asked of the numbers. Every text goes in as text, never as markup.

const $ = id => document.getElementById(id);
let DATA = null;  // what the page shows, see load()
const state = {
    curve: 0, column: 0, against: 0, prompt: 0, image: 0,
    view: "all", sort: "order", category: "", find: "",
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
const curveKey = it => JSON.stringify([it.run, it.digest]);
const checkpointKey = it => JSON.stringify([it.step, it.name]);

/** Show other data than before. What the reader has chosen stays chosen, where it is still there.
 *
 * `images` are by curve, checkpoint, prompt and number; without them they stand in the page.
 */
function load(data, images = null) {
    const earlier = DATA && {
        curve: curveKey(curve()), prompt: curve().prompts[state.prompt].id,
        column: checkpointKey(checkpoints()[state.column]), against: checkpointKey(checkpoints()[state.against]),
    };
    DATA = data;
    given = images;
    kept.clear();
    const place = earlier ? data.curves.findIndex(it => curveKey(it) === earlier.curve) : -1;
    const find = key => checkpoints().findIndex(it => checkpointKey(it) === key);
    begin(Math.max(place, 0), place < 0 ? {} : {find: state.find, category: state.category, image: state.image});
    if (place >= 0) {
        const found = {column: find(earlier.column), against: find(earlier.against),
            prompt: curve().prompts.findIndex(it => it.id === earlier.prompt)};
        for (const [name, it] of Object.entries(found)) if (it >= 0) state[name] = it;
    }
    tell(new Set(place < 0 ? ["data", "curve"] : ["data"]));
}

/** Choose a curve: at first its best beside the base. */
function begin(place, values = {}) {
    state.curve = place;
    const {checkpoints: columns, best} = curve();
    const base = columns.findIndex(it => it.base);
    Object.assign(state, {column: best ?? columns.length - 1, against: Math.max(base, 0), prompt: 0, image: 0,
        category: "", find: "", ...values});
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
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Return how a checkpoint is called. */
function nameOf(column) {
    const it = checkpoints()[column];
    if (it.base) return "base";
    if (curve().unit === "file") return it.name;  // its number is only its place
    const twins = checkpoints().filter(other => other.step === it.step && !other.base).length > 1;
    return twins ? `@${it.step} ${it.name}` : `@${it.step}`;
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

/** Return the mean of a prompt's images, null where it has no score. */
function scoreOf(column, prompt) {
    const row = checkpoints()[column].scores[prompt];
    return row && row.length ? average(row) : null;
}

/** Return b less a of a prompt, as `clipwatch compare` counts: on the first images that both have. */
function differenceOf(a, b, prompt) {
    const [first, second] = [a, b].map(it => checkpoints()[it].scores[prompt]);
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
function imageOf(column, prompt, image, large = false) {
    if (!kept.has(state.curve)) {
        kept.set(state.curve, given?.[state.curve] ?? JSON.parse($(`images-${state.curve}`).textContent));
    }
    const found = kept.get(state.curve)[column]?.[prompt]?.[image];
    if (!found) return null;
    if (DATA.assets === null) return `data:image/webp;base64,${found}`;
    return `${DATA.assets}/${found}${large ? "-large" : ""}.webp`;
}

/** Return a picture, or a word where there is none. */
function picture(column, prompt, image = 0) {
    const source = imageOf(column, prompt, image);
    if (!source) return make("span", {class: "none"}, "no image");
    const text = `${nameOf(column)}: ${curve().prompts[prompt].text}`;
    return make("img", {src: source, alt: text, loading: "lazy", decoding: "async"});
}

function classOf(difference) {
    if (difference === null || Math.abs(difference) <= curve().tie) return "same";
    return difference > 0 ? "gain" : "loss";
}
