"""Controls that gradio does not have."""

import gradio as gr


class InputAccordion(gr.Checkbox):
    """A checkbox that appears as an accordion and is checked while that is open. Needs a script on the page."""

    global_index = 0

    def __init__(self, value, **kwargs):
        self.accordion_id = kwargs.pop("elem_id", None)
        if self.accordion_id is None:
            self.accordion_id = f"input-accordion-{InputAccordion.global_index}"
            InputAccordion.global_index += 1
        super().__init__(value, elem_id=f"{self.accordion_id}-checkbox", visible=False, **kwargs)
        self.change(
            fn=None, _js=f"(checked) => {{ inputAccordionChecked('{self.accordion_id}', checked) }}", inputs=self
        )
        label = kwargs.pop("label", None) or "Accordion"
        self.accordion = gr.Accordion(
            label, open=value, elem_id=self.accordion_id, elem_classes=["input-accordion"], **kwargs
        )

    def __enter__(self):
        self.accordion.__enter__()
        return self

    def __exit__(self, *exception):
        self.accordion.__exit__(*exception)

    def get_block_name(self):
        return "checkbox"
