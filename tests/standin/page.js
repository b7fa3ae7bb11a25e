// The parts of the host's own scripts that an extension's script and its accordion need.
"use strict";

const loadedCallbacks = [];

function gradioApp() {
    const app = document.querySelector("gradio-app");
    return app === null ? document : app.shadowRoot || app;
}

function onUiLoaded(callback) {
    loadedCallbacks.push(callback);
}

function inputAccordionChecked(id, checked) {
    const head = document.querySelector(`#${id} .label-wrap`);
    if (head.classList.contains("open") !== checked) head.click();
}

// An accordion is checked while it is open. Its real checkbox is hidden.
function joinAccordion(accordion) {
    const head = accordion.querySelector(".label-wrap");
    const hidden = document.querySelector(`#${accordion.id}-checkbox input`);
    const visible = document.createElement("input");
    visible.type = "checkbox";
    visible.id = `${accordion.id}-visible-checkbox`;
    visible.className = `${hidden.className} input-accordion-checkbox`;
    visible.checked = hidden.checked;
    visible.addEventListener("click", (event) => event.stopPropagation());
    visible.addEventListener("input", () => tick(visible.checked));
    head.querySelector("span").prepend(visible);

    function tick(checked) {
        visible.checked = checked;
        inputAccordionChecked(accordion.id, checked);
        if (hidden.checked !== checked) hidden.click();
    }

    new MutationObserver(() => tick(head.classList.contains("open"))).observe(head, {attributeFilter: ["class"]});
}

document.addEventListener("DOMContentLoaded", () => {
    const ready = new MutationObserver(() => {
        if (document.querySelector("#txt2img_prompt") === null) return;
        ready.disconnect();
        document.querySelectorAll(".input-accordion").forEach(joinAccordion);
        loadedCallbacks.forEach((callback) => callback());
    });
    ready.observe(document, {childList: true, subtree: true});
});
