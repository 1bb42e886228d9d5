//! Releases on a board: folders beside one another, and one link that says which of them runs.
//!
//! ```text
//! <prefix>/.lock                 taken for as long as somebody deploys
//! <prefix>/.upload/              what is being copied; nothing runs from it
//! <prefix>/releases/<id>/        a release, never changed; `previous` names the one before it
//! <prefix>/current -> releases/<id>      replaced by renaming: there is always one
//! ```
//!
//! What changes the link also starts the service, in one script on the board, which puts back what was there when the
//! service does not start: a connection that is cut then leaves no half of it.

use super::shell::Script;

/// Prints the word of [`LOCKED`] and waits for the end of its input, with the lock taken; the folder is a plain word.
pub(crate) fn lock_command(prefix: &str) -> String {
    format!("flock -n {prefix}/.lock sh -c 'echo {LOCKED}; exec cat >/dev/null'")
}

/// What the lock's holder says.
pub(crate) const LOCKED: &str = "vgg-edge-locked";

const PREPARE: &str = r#"
mkdir -p "$prefix/releases" || fail "cannot write in $prefix"
chmod 755 "$prefix" "$prefix/releases"
if [ "$keep" = no ]; then rm -rf "$prefix/.upload"; fi
mkdir -p "$prefix/.upload"
chmod 700 "$prefix/.upload"
: >>"$prefix/.lock"
"#;

/// Makes the folders; `keep` what an earlier copy left.
pub(crate) fn prepare(prefix: &str, keep: bool) -> Script {
    Script::new(PREPARE).set("prefix", prefix).set("keep", if keep { "yes" } else { "no" })
}

const CLEAN: &str = r#"
echo "free=$(df -Pk "$prefix" | tail -n 1 | (read -r _ _ _ free _; echo "$free"))"
rm -rf "$prefix/.upload"
"#;

/// Says how much room there is, and removes a copy that failed.
pub(crate) fn clean(prefix: &str) -> Script {
    Script::new(CLEAN).set("prefix", prefix)
}

const CHECKSUM: &str = r#"
cd "$prefix/.upload"
bad=$(sha256sum -c SHA256SUMS 2>&1 | grep -v ': OK$' || true)
if [ -n "$bad" ]; then fail "$bad"; fi
count=$(grep -c . SHA256SUMS)
for file in *; do
  case "$file" in SHA256SUMS) ;; *) grep -q "  $file\$" SHA256SUMS || fail "$file: not in SHA256SUMS";; esac
done
chmod 644 *
chmod 755 classify
if [ -f token ]; then chmod 600 token; fi
sync -f . 2>/dev/null || sync
echo "files=$count"
"#;

/// Compares every file's SHA-256, and writes them to the disk.
pub(crate) fn checksum(prefix: &str) -> Script {
    Script::new(CHECKSUM).set("prefix", prefix)
}

const VERIFY: &str = r#"
cd "$prefix/.upload"
if [ "$signed" = yes ]; then
  ./classify verify model.vgg --public-key public.key >&2
else
  ./classify verify model.vgg >&2
fi
about=$(./classify info --board --json model.vgg)
echo "about=$about"
answer=$(./classify run --json model.vgg picture)
echo "answer=$answer"
"#;

/// Runs the program on the model: signature, checksums, self-test, what it takes here, one picture.
pub(crate) fn verify(prefix: &str, signed: bool) -> Script {
    Script::new(VERIFY).set("prefix", prefix).set("signed", if signed { "yes" } else { "no" })
}

/// What switches, and what goes back: `action` is `install`, `switch` or `undo`.
const SWITCH: &str = r#"
# A connection that is cut must not end this half way: nothing is printed before the end.
trap '' HUP
said=
say() {
  said="$said$1
"
}
new="$prefix/releases/$id"
point() {
  rm -f "$prefix/.current.new" &&
  ln -s "releases/$1" "$prefix/.current.new" &&
  mv -T "$prefix/.current.new" "$prefix/current"
}
start() {
  cp "$prefix/releases/$1/unit" "$unit_dir/.$unit.new" &&
  chmod 644 "$unit_dir/.$unit.new" &&
  mv -f "$unit_dir/.$unit.new" "$unit_dir/$unit" &&
  systemctl daemon-reload &&
  { systemctl reset-failed "$unit" >/dev/null 2>&1 || true; } &&
  systemctl enable "$unit" >/dev/null 2>&1 &&
  systemctl restart "$unit"
}
stop() {
  systemctl disable --now "$unit" >/dev/null 2>&1
  rm -f "$unit_dir/$unit"
  systemctl daemon-reload
}
# Release $1 runs; where it has no unit, no service does.
run() {
  point "$1" || return 1
  if [ "$service" = no ]; then return 0; fi
  if [ -f "$prefix/releases/$1/unit" ]; then start "$1"; else stop || true; fi
}
back() {
  if [ -n "$before" ] && [ -d "$prefix/releases/$before" ]; then
    if run "$before"; then say "restored=$before"; else say "restored=failed"; fi
  else
    if [ "$service" = yes ]; then stop || true; fi
    rm -f "$prefix/current"
    say "restored=none"
  fi
  if [ "$fresh" = yes ]; then rm -rf "$new"; fi
}
if [ "$action" != undo ]; then
  before=$(readlink "$prefix/current" 2>/dev/null || true)
  before=${before#releases/}
  say "before=$before"
fi
case "$action" in
  install)
    if [ -e "$new" ]; then fail "$new exists"; fi
    if [ -n "$unit_text" ]; then printf %s "$unit_text" >"$prefix/.upload/unit"; fi
    printf '%s\n' "$before" >"$prefix/.upload/previous"
    mv "$prefix/.upload" "$new"
    chmod 755 "$new"
    ;;
  switch)
    if [ -z "$id" ]; then
      id=$(cat "$prefix/releases/$before/previous" 2>/dev/null || true)
    fi
    if [ -z "$before" ] || [ -z "$id" ] || [ ! -d "$prefix/releases/$id" ]; then
      echo "missing=$id"
      exit 0
    fi
    new="$prefix/releases/$id"
    say "id=$id"
    ;;
  undo)
    back
    printf %s "$said"
    exit 0
    ;;
esac
if run "$id" 2>"$prefix/.switch.log"; then
  say "started=yes"
else
  say "started=no"
  say "why=$(tail -n 3 "$prefix/.switch.log" | tr '\n' ' ')"
  if [ "$service" = yes ]; then
    say "log=$(journalctl --no-pager -q -o cat -n 5 -u "$unit" 2>/dev/null | tr '\n' ' ' || true)"
  fi
  back
fi
rm -f "$prefix/.switch.log"
printf %s "$said"
"#;

/// What a switch is about.
pub(crate) struct Switch<'a> {
    pub(crate) prefix: &'a str,
    /// Unit and folder of units; without a service only the link changes.
    pub(crate) service: Option<(&'a str, &'a str)>,
}

impl Switch<'_> {
    fn script(&self, action: &str, id: &str, before: &str, fresh: bool) -> Script {
        let (unit, unit_dir) = self.service.unwrap_or(("", ""));
        Script::new(SWITCH)
            .set("prefix", self.prefix)
            .set("service", if self.service.is_some() { "yes" } else { "no" })
            .set("unit", unit)
            .set("unit_dir", unit_dir)
            .set("action", action)
            .set("id", id)
            .set("before", before)
            .set("fresh", if fresh { "yes" } else { "no" })
    }

    /// Makes what was copied release `id`, with this unit, and runs it; goes back when it does not start.
    pub(crate) fn install(&self, id: &str, unit_text: &str) -> Script {
        self.script("install", id, "", true).set("unit_text", unit_text)
    }

    /// Runs release `id`, or the one before the running one; goes back when it does not start.
    pub(crate) fn to(&self, id: Option<&str>) -> Script {
        self.script("switch", id.unwrap_or_default(), "", false)
    }

    /// Runs release `before` again, and removes release `id` if it is `fresh`.
    pub(crate) fn undo(&self, id: &str, before: &str, fresh: bool) -> Script {
        self.script("undo", id, before, fresh)
    }
}

const PRUNE: &str = r#"
current=$(readlink "$prefix/current" 2>/dev/null || true)
current=${current#releases/}
previous=$(cat "$prefix/releases/$current/previous" 2>/dev/null || true)
kept=0
for id in $(ls "$prefix/releases" | sort -r); do
  kept=$((kept + 1))
  if [ $kept -le "$keep" ] || [ "$id" = "$current" ] || [ "$id" = "$previous" ]; then continue; fi
  rm -rf "$prefix/releases/$id"
  echo "pruned=$id"
done
"#;

/// Removes all but the newest `keep` releases, the running one and the one before it.
pub(crate) fn prune(prefix: &str, keep: usize) -> Script {
    Script::new(PRUNE).set("prefix", prefix).set("keep", &keep.to_string())
}

const STATUS: &str = r#"
case "$prefix" in "~/"*) prefix="$HOME/${prefix#??}";; esac
current=$(readlink "$prefix/current" 2>/dev/null || true)
echo "current=${current#releases/}"
echo "releases=$(ls "$prefix/releases" 2>/dev/null | sort -r | tr '\n' ' ')"
if [ -n "$current" ]; then
  echo "release=$(cat "$prefix/current/release.json")"
  echo "previous=$(cat "$prefix/current/previous" 2>/dev/null || true)"
  if [ -f "$prefix/current/unit" ]; then
    echo "service=$(systemctl is-active "$unit" 2>/dev/null || true)"
    echo "since=$(systemctl show -p ActiveEnterTimestamp --value "$unit" 2>/dev/null || true)"
    echo "restarts=$(systemctl show -p NRestarts --value "$unit" 2>/dev/null || true)"
    echo "memory=$(systemctl show -p MemoryCurrent --value "$unit" 2>/dev/null || true)"
  fi
fi
"#;

/// Asks what is deployed.
pub(crate) fn status(prefix: &str, unit: &str) -> Script {
    Script::new(STATUS).set("prefix", prefix).set("unit", unit)
}

const READ: &str = r#"
cat "$prefix/current/$name"
"#;

/// Prints a file of the running release.
pub(crate) fn read(prefix: &str, name: &str) -> Script {
    Script::new(READ).set("prefix", prefix).set("name", name)
}
