// Keeps the live line of the ToDo accordion up to date. It shows what ToDo would do at the selected image size.
//
// Many things change controls without an event (pasted infotext, 'Send to', other extensions). So this script reads the
// controls a few times per second, and asks the host only if something has changed.
(function() {
    "use strict";

    const READ_EVERY_MS = 400;
    const ASK_AGAIN_MS = 3000; // while the host is still loading the selected checkpoint
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

    // If a size follows from a scale, the host shows 'from 512x512 to 1024x1024'. The last size is the one that counts.
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

    // A dropdown's box contains what the user is typing. Until that is one of the choices, keep the previous value.
    function readKnobs(knobs, values) {
        for (const [name, {id, choices}] of Object.entries(knobs)) {
            const value = valueOf(id);
            if (value !== undefined && (choices.length === 0 || choices.includes(value))) values[name] = value;
        }
    }

    // Forge's checkpoint dropdown has a label, but no id.
    function selectedCheckpoint() {
        const menu = element("#setting_sd_model_checkpoint input, #quicksettings input[aria-label=Checkpoint]");
        return menu === null ? "" : menu.value.split(" [")[0];
    }

    // Changes with every generated image. The host may have loaded another model for it.
    function lastInfotext(tab) {
        const information = element(`#html_info_${tab}`);
        return information === null ? "" : information.textContent;
    }

    // The size of the first pass and, if hires. fix is on, that of the hires pass.
    function sizes(tab) {
        return [firstSize(tab), hiresSize(tab)].filter((size) => size !== null);
    }

    // The requests for a line: one for each pass.
    function requests(tab, knobs) {
        return sizes(tab).map((size, index) => {
            const pass = index > 0 ? {...size, hires: "true"} : size;
            return "todo/v1/plan?" + new URLSearchParams({...pass, ...knobs});
        });
    }

    // The data that the button 'Measure on this GPU' sends.
    window.todoSizes = (tab) => JSON.stringify({batch: valueOf(tab + "_batch_size"), passes: sizes(tab)});

    async function ask(request) {
        const response = await fetch(request);
        const answer = await response.json();
        return response.ok ? answer : {parts: [[String(answer.detail), ""]]};
    }

    // Each label gets its own element, so that the host can translate it.
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
        let shown = null; // the requests whose answers the line shows
        let asking = false;
        let askAgain = 0; // when to repeat the requests, and how many more times, although nothing has changed
        let timesLeft = 0;

        async function update() {
            if (asking || !isShown(line)) return;
            readKnobs(knobs, values);
            const asked = requests(line.dataset.tab, values);
            const key = JSON.stringify([asked, selectedCheckpoint(), lastInfotext(line.dataset.tab)]);
            const due = timesLeft > 0 && Date.now() >= askAgain;
            if (key === shown && !due) return;
            timesLeft = key === shown ? timesLeft - 1 : ASK_AGAIN_TIMES;
            shown = key;
            asking = true;
            try {
                const answers = await Promise.all(asked.map(ask));
                show(line, answers);
                const loaded = (answers[0].checkpoint || "").split(" [")[0];
                if (!selectedCheckpoint() || loaded === selectedCheckpoint()) timesLeft = 0;
            } catch (error) {
                line.textContent = ""; // the host is gone or busy; the next change sends new requests
            } finally {
                asking = false;
                askAgain = Date.now() + ASK_AGAIN_MS;
            }
        }

        setInterval(update, READ_EVERY_MS);
    }

    onUiLoaded(() => gradioApp().querySelectorAll(".todo-live").forEach(watch));
})();
