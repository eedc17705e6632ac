import { EditorView } from "@codemirror/view";

/**
 * Typing over a selection is done here and not by the browser: Chromium keeps the look of what it removes in a style
 * attribute, which a Content-Security-Policy refuses, with an error on the console each time.
 */
export const typeOverSelection = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { state } = view;
    if (event.inputType !== "insertText" || event.data === null || view.composing || state.readOnly) return false;
    if (state.selection.ranges.every((range) => range.empty)) return false;
    view.dispatch(state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
    return true;
  },
});
