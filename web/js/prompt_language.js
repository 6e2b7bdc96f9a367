/**
 * Shows the detected language at the bottom of 'Wan GGUF Prompt' after a run.
 *
 * The node returns it as a text preview; frontend 1.47 displays such previews for its own 'Preview as Text' only. This file can
 * go when the frontend displays them for every node.
 */
import { app } from "../../../scripts/app.js";

const NODE_ID = "WanGGUFPrompt";
const WIDGET = "wan_gguf_language";

/** The node's result is "<language>\n- <negative prompt in use>": the first line is shown, all of it in the tooltip. */
function showLanguage(node, output) {
  const text = output?.text?.[0];
  if (!text) return;
  let widget = node.widgets?.find(({ name }) => name === WIDGET);
  if (!widget) {
    const options = { serialize: false, read_only: true }; // not sent with the prompt
    widget = node.addWidget("text", WIDGET, "", () => (widget.value = widget.shown), options); // an edit is taken back
    widget.serialize = false; // not saved with the workflow, whose values go by position
    const slot = node.outputs?.find(({ name }) => name === "language");
    widget.label = slot?.label ?? slot?.localized_name ?? "language"; // translated like the output
  }
  widget.value = widget.shown = text.split("\n", 1)[0];
  widget.tooltip = text;
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "WanGGUF.PromptLanguage",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE_ID) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, [output]);
      showLanguage(this, output);
    };
  },

  /** Results of an earlier run, after the page was loaded again. */
  onNodeOutputsUpdated(nodeOutputs) {
    for (const [id, output] of Object.entries(nodeOutputs)) {
      const node = app.graph?.getNodeById(id);
      if (node?.type === NODE_ID) showLanguage(node, output);
    }
  },
});
