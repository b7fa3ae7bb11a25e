// Keeps the live line of the ToDo accordion up to date. It shows what ToDo would do at the selected image size.
//
// Many things change controls without an event (pasted infotext, 'Send to', other extensions). So this script reads the
// controls a few times per second, and asks the host only if something has changed. It asks by clicking a hidden button,
// so that the question goes the way of all events of the page, behind its login.
(function() {
    "use strict";

    const READ_EVERY_MS = 400;
    const TYPING_MS = 800; // a number that is being typed is not complete yet
    const ANSWER_MS = 5000;
    const ASK_AGAIN_MS = 3000; // while the host is still loading the selected checkpoint
    const ASK_AGAIN_TIMES = 40;

    let lastTyped = 0;
    let questions = 0;

    function element(selector) {
        return gradioApp().querySelector(selector);
    }

    function byId(id) {
        return element("#" + CSS.escape(id));
    }

    function isShown(node) {
        return node !== null && node.offsetParent !== null;
    }

    function valueOf(id) {
        const node = byId(id);
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

    // From an image, the host takes the share of the steps that the denoising strength says, and one more.
    function firstPass(tab) {
        const scaled = tab === "img2img" && isShown(element("#img2img_tab_resize_by"));
        const size = scaled ? lastSizeIn("#img2img_scale_resolution_preview") : null;
        const all = Number(valueOf(tab + "_steps")) || 0;
        const share = Math.min(valueOf("img2img_denoising_strength") || 1, 0.999);
        const steps = tab === "img2img" && all ? Math.floor(all * share) + 1 : all;
        return {steps, ...size || {width: valueOf(tab + "_width"), height: valueOf(tab + "_height")}};
    }

    function hiresPass(tab) {
        if (tab !== "txt2img" || valueOf("txt2img_hr-checkbox") !== "true") return null;
        const size = lastSizeIn("#txtimg_hr_finalres");
        const steps = Number(valueOf("txt2img_hires_steps")) || Number(valueOf("txt2img_steps")) || 0;
        return size && {steps, ...size};
    }

    // Size and steps of the first pass and, if hires. fix is on, those of the hires pass.
    function sizes(tab) {
        const passes = [firstPass(tab), hiresPass(tab)].filter((pass) => pass !== null);
        return {batch: valueOf(tab + "_batch_size"), passes};
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

    // The data that the button 'Measure on this machine' sends, and those of a question.
    window.todoSizes = (tab) => JSON.stringify(sizes(tab));
    window.todoQuestion = (tab) => JSON.stringify({id: questions, ...sizes(tab)});

    // Shows at once that something has begun, until the host has answered.
    window.todoWaiting = (id, waiting) => byId(id).classList.toggle("todo-waiting", waiting);

    function isNumberBox(node) {
        return node !== null && node.matches("input[type=number]");
    }

    // Whether a number is being typed. gradio corrects it only when the user leaves the box.
    function isTyping() {
        const box = gradioApp().activeElement || document.activeElement;
        if (!isNumberBox(box)) return false;
        const {rangeUnderflow, rangeOverflow, badInput} = box.validity;
        return Date.now() - lastTyped < TYPING_MS || box.value === "" || rangeUnderflow || rangeOverflow || badInput;
    }

    // gradio would make an emptied box its minimum when the user leaves it. It gets back the number it had.
    function keepNumbers(accordion) {
        let before = "";
        accordion.addEventListener("focus", ({target}) => {
            if (isNumberBox(target)) before = target.value;
        }, true);
        accordion.addEventListener("blur", ({target}) => {
            if (!isNumberBox(target) || target.value !== "") return;
            target.value = before;
            target.dispatchEvent(new Event("input", {bubbles: true}));
        }, true);
    }

    // Asks the host with a click on the hidden button, and waits for the answer in the hidden box.
    async function ask(ids) {
        questions += 1;
        const id = questions;
        byId(ids.ask).click();
        for (const end = Date.now() + ANSWER_MS; Date.now() < end;) {
            await new Promise((done) => setTimeout(done, 50));
            const box = byId(ids.answer).querySelector("textarea, input");
            const answer = JSON.parse(box.value || "{}");
            if (answer.id === id) return answer;
        }
        throw new Error("no answer");
    }

    // A text in the user's language, with a figure in place of each {}.
    function sentence([text, ...figures]) {
        const translated = (window.localization || {})[text] || text;
        return figures.reduce((done, figure) => done.replace("{}", () => figure), translated);
    }

    // The answer of a measurement marks its phrases.
    function translatePhrases() {
        gradioApp().querySelectorAll("[data-todo-phrase]").forEach((node) => {
            node.textContent = sentence(JSON.parse(node.dataset.todoPhrase));
            delete node.dataset.todoPhrase;
        });
    }

    function lines(answer) {
        if (answer.problem) return [answer.problem];
        return answer.passes.map(({size, hires, parts}) => {
            const start = hires ? `${size}: ${sentence(["hires pass"])}: ` : `${size}: `;
            return start + parts.map(sentence).join(" · ");
        });
    }

    function show(line, texts) {
        line.replaceChildren(...texts.map((text) => {
            const shown = document.createElement("div");
            shown.textContent = text;
            return shown;
        }));
    }

    function watch(line) {
        const {tab} = line.dataset;
        const ids = JSON.parse(line.dataset.ids);
        const knobs = JSON.parse(line.dataset.knobs);
        const values = {};
        let shown = null; // what the line has been asked for
        let asking = false;
        let askAgain = 0; // when to repeat the question, and how many more times, although nothing has changed
        let timesLeft = 0;

        async function update() {
            if (asking || !isShown(line) || isTyping()) return;
            readKnobs(knobs, values);
            translatePhrases();
            const result = byId(ids.measured);
            const measured = result === null ? "" : result.textContent;
            const key = JSON.stringify([sizes(tab), values, selectedCheckpoint(), lastInfotext(tab), measured]);
            const due = timesLeft > 0 && Date.now() >= askAgain;
            if (key === shown && !due) return;
            timesLeft = key === shown ? timesLeft - 1 : ASK_AGAIN_TIMES;
            shown = key;
            asking = true;
            try {
                const answer = await ask(ids);
                show(line, lines(answer));
                const loaded = (answer.checkpoint || "").split(" [")[0];
                if (!selectedCheckpoint() || loaded === selectedCheckpoint()) timesLeft = 0;
            } catch (error) {
                show(line, []); // the host is gone or busy; the next change asks again
            } finally {
                asking = false;
                askAgain = Date.now() + ASK_AGAIN_MS;
            }
        }

        keepNumbers(byId(ids.enabled));
        setInterval(update, READ_EVERY_MS);
    }

    document.addEventListener("input", ({target}) => {
        if (isNumberBox(target)) lastTyped = Date.now();
    }, true);

    onUiLoaded(() => gradioApp().querySelectorAll(".todo-live").forEach(watch));
})();
