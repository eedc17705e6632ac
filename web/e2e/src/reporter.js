// One line a test, in the form that .ci/test counts: `ok    NAME` or `FAIL  NAME`, and beneath the latter why.

/** @param {AsyncIterable<any>} events */
export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type === "test:diagnostic" && /^(measured|left out|the page)/.test(data.message)) {
      yield `      ${data.message}\n`;
    } else if (type === "test:pass" && data.details.type !== "suite") {
      // Nobody asked for it.
      if (data.skip === "test name does not match pattern") continue;
      // What was skipped was neither seen to work nor to fail.
      const skipped = data.skip !== undefined;
      yield skipped ? `skip  ${data.name}: ${data.skip}\n` : `ok    ${data.name}\n`;
    } else if (type === "test:fail" && data.details.type !== "suite") {
      const error = data.details.error?.cause ?? data.details.error;
      const reason = String(error?.stack ?? error);
      yield `FAIL  ${data.name}\n${reason.replace(/^/gm, "      ")}\n`;
    } else if (type === "test:stderr" || type === "test:stdout") {
      yield data.message;
    }
  }
}
