#!/usr/bin/env bash
# Makes a Chromium whose software adapter has `shader-f16`, and prints what to export to use it.
#
#   eval "$(tools/float16_chromium/install.sh)"                   Debian 12, once; gcc and apt
#   python -m pytest tests/browser/test_mixed_precision.py        runs with halves of two bytes
#
# SwiftShader has no shader-f16; Mesa's lavapipe has, from version 25 in a form that Dawn takes.
# Chromium accepts no other software driver than SwiftShader, so the driver gives its name (shim.c).
# Nothing is installed in the system: all is in build/float16_chromium.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
place="$(cd "$here/../.." && pwd)/build/float16_chromium"
mesa=25.0.7-2~bpo12+1

fetch_driver() {
  local mirror
  mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)"
  mkdir -p "$place"/apt/{lists,cache/archives}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" \
    > "$place/apt/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$place/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$place/apt/lists" -o "Dir::Cache=$place/apt/cache")
  apt-get "${options[@]}" -q update
  (cd "$place" && apt-get "${options[@]}" -q download "mesa-vulkan-drivers=$mesa" \
    && dpkg -x mesa-vulkan-drivers_*.deb mesa)
}

make_browser() {
  local original=/usr/lib/chromium
  [ -d "$original" ] || { echo "there is no $original: apt-get install chromium" >&2; exit 1; }
  cp -r "$original" "$place/chromium"
  gcc -shared -fPIC -O1 -o "$place/chromium/libvk_swiftshader.so" "$here/shim.c" -ldl
}

[ -f "$place/mesa/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so" ] || fetch_driver >&2
[ -d "$place/chromium" ] || make_browser >&2
cat > "$place/driver.json" <<JSON
{"file_format_version": "1.0.0", "ICD": {"api_version": "1.4.305",
 "library_path": "$place/mesa/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so"}}
JSON
echo "export CHROMIUM='$place/chromium/chromium'"
echo "export VK_ICD_FILENAMES='$place/driver.json' VK_DRIVER_FILES='$place/driver.json'"
