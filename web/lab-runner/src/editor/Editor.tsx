import { Annotation, Compartment, EditorState, type Extension } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { useEffect, useInsertionEffect, useRef } from "react";
import { python } from "./extensions.js";

export interface EditorProps {
  value: string;
  onChange(value: string): void;
  readOnly: boolean;
  label: string;
  /** Id of the element that describes it. */
  describedBy: string;
  cspNonce: string | undefined;
}

/** Marks a change that comes from the value, which nobody needs to be told of. */
const fromValue = Annotation.define<boolean>();

/** CodeMirror, with its text controlled by `value`. */
export function Editor({ value, onChange, readOnly, label, describedBy, cspNonce }: EditorProps) {
  const parent = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | undefined>(undefined);
  const changing = useRef(new Compartment());
  const changed = useRef(onChange);
  useInsertionEffect(() => {
    changed.current = onChange;
  });

  const settings: Extension = [
    EditorState.readOnly.of(readOnly),
    EditorView.contentAttributes.of({ "aria-label": label, "aria-describedby": describedBy }),
  ];
  const first = useRef({ value, settings });
  first.current = { value, settings };

  useEffect(() => {
    if (!parent.current) return;
    const editor = new EditorView({
      parent: parent.current,
      doc: first.current.value,
      extensions: [
        // Read once, when the view makes its stylesheet.
        cspNonce === undefined ? [] : EditorView.cspNonce.of(cspNonce),
        changing.current.of(first.current.settings),
        python(),
        EditorView.updateListener.of((update) => {
          const own = update.transactions.some((transaction) => transaction.annotation(fromValue));
          if (update.docChanged && !own) changed.current(update.state.doc.toString());
        }),
      ],
    });
    view.current = editor;
    return () => {
      view.current = undefined;
      editor.destroy();
    };
  }, [cspNonce]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the settings are made of these three
  useEffect(() => {
    view.current?.dispatch({ effects: changing.current.reconfigure(settings) });
  }, [readOnly, label, describedBy]);

  // After each rendering, not only when the value changes: who keeps it as it was gets it back.
  useEffect(() => {
    const editor = view.current;
    if (!editor || editor.state.doc.toString() === value) return;
    editor.dispatch({
      changes: { from: 0, to: editor.state.doc.length, insert: value },
      annotations: fromValue.of(true),
    });
  });

  return <div className="lab-runner__editor" ref={parent} />;
}
