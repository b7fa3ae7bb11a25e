// Keeps the live line of the ToDo accordion right: what ToDo would do to a picture of the size now chosen.
//
// Many things change the page without any event (pasted parameters, 'Send to', other extensions), so the controls are
// read a few times a second; the host is asked only when what was read has changed.
(function() {
    "use strict";

    const READ_EVERY_MS = 400;
    const ASK_AGAIN_MS = 3000; // while the host is still loading the checkpoint chosen
    const ASK_AGAIN_TIMES = 40;

    function element(selector) {
        return gradioApp().querySelector(selector);
    }

    function isShown(node) {
        return node !== null && node.offsetParent !== null;
    }

    function valueOf(id) {
        const node = element("#" + CSS.escape(id));
        if (node === null) return undefined;
        const number = node.querySelector("input[type=number]");
        if (number !== null) return number.value;
        const checkbox = node.querySelector("input[type=checkbox]");
        if (checkbox !== null) return String(checkbox.checked);
        const choice = node.querySelector("input[type=radio]:checked") || node.querySelector("input");
        return choice === null ? undefined : choice.value;
    }

    // The host writes 'from 512x512 to 1024x1024' where a size follows from a scale; the last one counts.
    function lastSizeIn(selector) {
        const node = element(selector);
        const sizes = node === null ? [] : [...node.textContent.matchAll(/(\d+)\s*[x×]\s*(\d+)/g)];
        if (sizes.length === 0) return null;
        const [, width, height] = sizes[sizes.length - 1];
        return {width, height};
    }

    function firstSize(tab) {
        const scaled = tab === "img2img" && isShown(element("#img2img_tab_resize_by"));
        const size = scaled ? lastSizeIn("#img2img_scale_resolution_preview") : null;
        return size || {width: valueOf(tab + "_width"), height: valueOf(tab + "_height")};
    }

    function hiresSize(tab) {
        if (tab !== "txt2img" || valueOf("txt2img_hr-checkbox") !== "true") return null;
        return lastSizeIn("#txtimg_hr_finalres");
    }

    // A menu's box holds whatever the user is typing; until it is one of the choices, the last one counts.
    function readKnobs(knobs, values) {
        for (const [name, {id, choices}] of Object.entries(knobs)) {
            const value = valueOf(id);
            if (value !== undefined && (choices.length === 0 || choices.includes(value))) values[name] = value;
        }
    }

    // Forge's menu of checkpoints has a label, but no id.
    function checkpointChosen() {
        const menu = element("#setting_sd_model_checkpoint input, #quicksettings input[aria-label=Checkpoint]");
        return menu === null ? "" : menu.value.split(" [")[0];
    }

    // Changes with every picture made, and with it perhaps the model that the host has loaded.
    function lastPicture(tab) {
        const information = element(`#html_info_${tab}`);
        return information === null ? "" : information.textContent;
    }

    // The first pass's size, and that of hires fix where it is on.
    function sizes(tab) {
        return [firstSize(tab), hiresSize(tab)].filter((size) => size !== null);
    }

    // A line's questions to the host: one for each pass.
    function questions(tab, knobs) {
        return sizes(tab).map((size, index) => {
            const pass = index > 0 ? {...size, hires: "true"} : size;
            return "todo/v1/plan?" + new URLSearchParams({...pass, ...knobs});
        });
    }

    // What the button 'Measure on this GPU' sends.
    window.todoSizes = (tab) => JSON.stringify({batch: valueOf(tab + "_batch_size"), passes: sizes(tab)});

    async function ask(question) {
        const response = await fetch(question);
        const answer = await response.json();
        return response.ok ? answer : {parts: [[String(answer.detail), ""]]};
    }

    // Each label is a text of its own, so that the host can translate it.
    function show(line, answers) {
        line.replaceChildren();
        answers.forEach((answer, index) => {
            const pass = document.createElement("div");
            if (answer.width) addText(pass, `${answer.width}×${answer.height}: `);
            if (index > 0) {
                addText(pass, "hires pass");
                addText(pass, ": ");
            }
            answer.parts.forEach(([label, figures], part) => {
                if (part > 0) addText(pass, " · ");
                addText(pass, label);
                if (figures !== "") addText(pass, " " + figures);
            });
            line.append(pass);
        });
    }

    function addText(parent, text) {
        const span = document.createElement("span");
        span.style.whiteSpace = "pre-wrap";
        span.textContent = text;
        parent.append(span);
    }

    function watch(line) {
        const knobs = JSON.parse(line.dataset.knobs);
        const values = {};
        let shown = null; // the questions that the line answers
        let asking = false;
        let askAgain = 0; // when, and how many times, to ask once more although nothing has changed
        let timesLeft = 0;

        async function update() {
            if (asking || !isShown(line)) return;
            readKnobs(knobs, values);
            const asked = questions(line.dataset.tab, values);
            const key = JSON.stringify([asked, checkpointChosen(), lastPicture(line.dataset.tab)]);
            const due = timesLeft > 0 && Date.now() >= askAgain;
            if (key === shown && !due) return;
            timesLeft = key === shown ? timesLeft - 1 : ASK_AGAIN_TIMES;
            shown = key;
            asking = true;
            try {
                const answers = await Promise.all(asked.map(ask));
                show(line, answers);
                const loaded = (answers[0].checkpoint || "").split(" [")[0];
                if (!checkpointChosen() || loaded === checkpointChosen()) timesLeft = 0;
            } catch (error) {
                line.textContent = ""; // the host is gone or busy; the next change asks again
            } finally {
                asking = false;
                askAgain = Date.now() + ASK_AGAIN_MS;
            }
        }

        setInterval(update, READ_EVERY_MS);
    }

    onUiLoaded(() => gradioApp().querySelectorAll(".todo-live").forEach(watch));
})();
