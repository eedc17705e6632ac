import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { pythonLanguage } from "@codemirror/lang-python";
import { bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { EditorState, type Extension } from "@codemirror/state";
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { classHighlighter } from "@lezer/highlight";
import { typeOverSelection } from "./typing.js";

/**
 * What makes it an editor for Python. Tab indents, as Python needs it; Escape and then Tab leaves, which is CodeMirror's
 * own. Colours are classes of the stylesheet, so that a theme is CSS alone.
 */
export function python(): Extension {
  return [
    pythonLanguage,
    syntaxHighlighting(classHighlighter),
    indentUnit.of("    "),
    EditorState.tabSize.of(4),
    indentOnInput(),
    bracketMatching(),
    lineNumbers(),
    highlightActiveLine(),
    highlightActiveLineGutter(),
    highlightSpecialChars(),
    drawSelection(),
    history(),
    EditorView.lineWrapping,
    typeOverSelection,
    keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
  ];
}
