"use strict";
// While `clipwatch serve` stands behind the page, newer data arrives by itself.

const LOOK_EVERY = 3000;  // milliseconds

async function look() {
    try {
        const answer = await fetch(`data?after=${DATA.live.version}`);
        if (answer.status === 200) {
            const {data, images} = await answer.json();
            load(data, images);
        }
        $("live").textContent = answer.ok ? "live" : `not live: ${await answer.text()}`;
    } catch {
        $("live").textContent = "not live any more: clipwatch serve has ended";
    }
    setTimeout(look, LOOK_EVERY);
}

$("live").hidden = false;
$("live").textContent = "live";
setTimeout(look, LOOK_EVERY);
