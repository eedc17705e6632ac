# build-images --offline-base: both images without a registry, as OCI archives.
# shellcheck shell=bash

readonly BASE_NAME=localhost/codeexec-base:bookworm

# python3-venv brings pip as a wheel for the build; pip itself is not installed. libstdc++6 is for numpy, which
# expects it of the system; the official images have it too.
readonly BASE_RECIPE=(
  --variant=essential
  --include=python3,python3-venv,libstdc++6,ca-certificates,tzdata
  '--dpkgopt=path-exclude=/usr/share/man/*'
  '--dpkgopt=path-exclude=/usr/share/locale/*'
  '--dpkgopt=path-exclude=/usr/share/doc/*'
  '--dpkgopt=path-include=/usr/share/doc/*/copyright'
  '--customize-hook=rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/usr/share/info'
  bookworm
)

install_tools() {
  local missing=() tool
  for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
}

import_base() {
  local cache=${CODEEXEC_CACHE:-$HOME/.cache/codeexec} hash archive container
  hash=$(printf '%s\n' "${BASE_RECIPE[@]}" | sha256sum | cut -c1-16)
  archive=$cache/base-$hash.tar
  if [[ $(buildah inspect --type image --format '{{index .OCIv1.Config.Labels "recipe"}}' "$BASE_NAME" 2>/dev/null) == "$hash" ]]; then
    return
  fi
  if [[ ! -f $archive ]]; then
    say "making the base from Debian's packages"
    mkdir -p "$cache"
    # Renamed when complete, so that an interrupted run leaves nothing that looks finished.
    mmdebstrap --quiet --format=tar "${BASE_RECIPE[@]:0:${#BASE_RECIPE[@]}-1}" "${BASE_RECIPE[-1]}" - >"$archive.part"
    mv "$archive.part" "$archive"
  fi
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$archive" / >/dev/null
  buildah config --label "recipe=$hash" --env PATH=/usr/local/bin:/usr/bin:/bin --cmd python3 "$container"
  buildah commit --quiet --rm "$container" "$BASE_NAME" >/dev/null
}

# archive IMAGE NAME FILE INPUTS...: nothing happens when the inputs are those of the archive there is.
archive() {
  local image=$1 name=$2 file=$3 hash
  shift 3
  hash=$({ cat "$(containerfile "$image")" "$@"; buildah images --no-trunc --quiet "$BASE_NAME"; } | sha256sum | cut -d' ' -f1)
  if [[ -f $file && $(cat "$file.inputs" 2>/dev/null) == "$hash" ]]; then
    say "$file is up to date ($name)"
    return
  fi
  rm -f "$file" "$file.inputs"
  build "$image" "$name" >&2
  buildah push --quiet "$name" "oci-archive:$file:$name"
  echo "$hash" >"$file.inputs"
  say "$file is new ($name)"
}

offline() {
  local option=$1 architecture folder control=control tag=dev
  [[ $(id -u) -eq 0 ]] || die "--offline-base needs root, for mmdebstrap and buildah"
  FEATURES=
  case $option in
    "") ;;
    --failpoints) FEATURES=codeexec-operator/failpoints control=control-failpoints tag=failpoints ;;
    *) die "unknown option $option" ;;
  esac
  install_tools
  architecture=$(dpkg --print-architecture)
  folder=target/image/$architecture
  if [[ ${BINARIES:-} != prebuilt ]]; then
    # The runner apart from the others: built together they would share the union of their features.
    FEATURES='' deploy/compile "$architecture" "$folder" codeexec-runner
    FEATURES=$FEATURES deploy/compile "$architecture" "$folder" codeexec-operator codeexec-api
  fi
  import_base

  mkdir -p target/images
  tool=buildah
  export BUILDAH_ISOLATION=chroot # works in containers and CI machines as well
  BINARIES=prebuilt BASE_IMAGE=$BASE_NAME
  archive executor codeexec.local/executor:dev target/images/executor.tar \
    "$folder/codeexec-runner" executor-image/requirements.lock executor-image/site/*
  archive control "codeexec.local/control:$tag" "target/images/$control.tar" \
    "$folder/codeexec-operator" "$folder/codeexec-api"
}
