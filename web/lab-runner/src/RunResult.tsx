import { Files } from "./output/Files.js";
import { Output } from "./output/Output.js";
import { isBusy, type Phase, type RunState } from "./run/state.js";
import { useCountdown } from "./run/useCountdown.js";
import { emptyOutput, failure, losses } from "./run/words.js";

/** Everything below the buttons: warnings, output, errors, pictures and files. */
export function RunResult({ state }: { state: RunState }) {
  const { phase, transcript, warnings } = state;
  const result = "result" in phase ? phase.result : undefined;
  return (
    <div className="lab-runner__result">
      {warnings.length > 0 && (
        <ul className="lab-runner__warnings" aria-label="Warnings">
          {warnings.map((warning, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the same may be said twice, and the list never changes
            <li key={at}>{warning}</li>
          ))}
        </ul>
      )}
      <Output transcript={transcript} live={isBusy(phase)} empty={emptyOutput(phase)} />
      {result &&
        losses(result).map((loss) => (
          <p key={loss} className="lab-runner__loss">
            {loss}
          </p>
        ))}
      <ErrorBlock phase={phase} />
      {result && <Files files={result.files} />}
    </div>
  );
}

/** What went wrong. A traceback is not read out by itself: it can be long, and the status says that there is one. */
function ErrorBlock({ phase }: { phase: Phase }) {
  switch (phase.name) {
    case "error":
      return phase.result.error ? <pre className="lab-runner__error">{phase.result.error}</pre> : null;
    case "timeout":
      return (
        <p className="lab-runner__timeout" role="alert">
          {phase.result.error}
        </p>
      );
    case "failed":
      return (
        <p className="lab-runner__failure" role="alert">
          {failure(phase.error)}
        </p>
      );
    case "limited":
      return (
        <div className="lab-runner__limited">
          <p role="alert">{failure(phase.error)}</p>
          <Countdown until={phase.until} />
        </div>
      );
    default:
      return null;
  }
}

function Countdown({ until }: { until: number }) {
  const seconds = useCountdown(until);
  return (
    <p role="timer" className="lab-runner__countdown">
      You can run it again in {seconds} s.
    </p>
  );
}
