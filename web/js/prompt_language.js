/**
 * Shows the detected language, and what the embedding cache did, at the bottom of 'Wan GGUF Prompt' after a run.
 *
 * The node returns them as texts; frontend 1.47 displays texts for its own 'Preview as Text' only. This file can go when the
 * frontend displays them for every node.
 */
import { app } from "../../../scripts/app.js";

const NODE_ID = "WanGGUFPrompt";

/** A read-only field, made at the first call; `labelled` is the output or input whose translated name it bears. */
function showField(node, name, labelled, value, tooltip) {
  let widget = node.widgets?.find((found) => found.name === name);
  if (!widget) {
    const options = { serialize: false, read_only: true }; // not sent with the prompt
    widget = node.addWidget("text", name, "", () => (widget.value = widget.shown), options); // an edit is taken back
    widget.serialize = false; // not saved with the workflow, whose values go by position
    widget.label = labelled?.label ?? labelled?.localized_name ?? labelled?.name;
  }
  widget.value = widget.shown = value;
  widget.tooltip = tooltip;
}

/** The node's result is text "<language>\n- <negative prompt in use>" and cache "positive: <state>", "negative: <state>". */
function showResult(node, output) {
  const text = output?.text?.[0];
  if (!text) return;
  const language = node.outputs?.find(({ name }) => name === "language");
  showField(node, "wan_gguf_language", language, text.split("\n", 1)[0], text);
  const states = output.cache;
  if (states) {
    const cache = node.widgets?.find(({ name }) => name === "cache");
    showField(node, "wan_gguf_cache", cache, states.join(" · "), states.join("\n"));
  }
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "WanGGUF.PromptLanguage",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE_ID) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, [output]);
      showResult(this, output);
    };
  },

  /** Results of an earlier run, after the page was loaded again. */
  onNodeOutputsUpdated(nodeOutputs) {
    for (const [id, output] of Object.entries(nodeOutputs)) {
      const node = app.graph?.getNodeById(id);
      if (node?.type === NODE_ID) showResult(node, output);
    }
  },
});
