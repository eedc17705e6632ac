import type { ResultFile } from "../api/types.js";
import { byteLength, downloadName, downloadUrl, pictureUrl, shownName, shownSize } from "./files.js";

/**
 * What the program left: pictures as pictures, everything to download. The lists never change once they are there, and a
 * server may name two files the same, so each is known by its place.
 */
export function Files({ files }: { files: readonly ResultFile[] }) {
  const pictures = files.filter((file) => pictureUrl(file) !== undefined);
  const others = files.filter((file) => pictureUrl(file) === undefined);
  return (
    <>
      {pictures.map((file, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: see above
        <figure key={at} className="lab-runner__figure">
          <img src={pictureUrl(file)} alt={`Figure ${at + 1}: ${shownName(file.path)}`} />
          <figcaption>
            <Download file={file} />
          </figcaption>
        </figure>
      ))}
      {others.length > 0 && (
        <ul className="lab-runner__files" aria-label="Files">
          {others.map((file, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: see above
            <li key={at}>
              <Download file={file} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Download({ file }: { file: ResultFile }) {
  const name = shownName(file.path);
  const url = downloadUrl(file);
  return (
    <>
      {url === undefined ? (
        <bdi>{name}</bdi>
      ) : (
        <a href={url} download={downloadName(file.path)}>
          Download <bdi>{name}</bdi>
        </a>
      )}{" "}
      <span className="lab-runner__size">{shownSize(byteLength(file.content))}</span>
    </>
  );
}
