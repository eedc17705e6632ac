//! `codeexec-api new-key`: makes a key, shows it once, and says what to write down of it.

use std::io::{self, Write};

use clap::Parser;
use serde_json::json;

use super::key::{KeyHash, new_key};
use crate::auth::{Via, user};

/// What makes the process this, as its first argument.
pub const COMMAND: &str = "new-key";

/// Makes an API key. The key goes to standard output, this once; what to store of it to standard error.
#[derive(Clone, Debug, Parser)]
#[command(name = "codeexec-api new-key", max_term_width = 110)]
pub struct NewKey {
    /// Whose key it is
    #[arg(value_name = "USER", value_parser = user_name)]
    pub user: String,
    /// Executions a minute, in place of the server's default; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    pub per_minute: Option<u32>,
    /// Executions at once, in place of the server's default; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    pub concurrent: Option<u32>,
    /// The Secret that holds the hashes, for the command that stores this one
    #[arg(
        long,
        env = "CODEEXEC_API_KEYS_SECRET",
        value_name = "NAME",
        default_value = "codeexec-api-keys"
    )]
    pub api_keys_secret: String,

    /// Lets them read what others ran
    #[arg(long)]
    pub admin: bool,
}

fn user_name(text: &str) -> Result<String, String> {
    user::check(text, Via::ApiKeys).map_err(str::to_owned)?;
    Ok(text.to_owned())
}

impl NewKey {
    /// The name of the entry, and its content for this key. Names of entries in a Secret are narrower than
    /// those of users.
    fn entry(&self, key: &str) -> (String, String) {
        let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        let name: String = self
            .user
            .chars()
            .map(|char| if fits(char) { char } else { '-' })
            .collect();
        let mut entry = json!({"hashes": [KeyHash::of(key).to_string()]});
        if name != self.user {
            entry["user"] = json!(self.user);
        }
        if let Some(per_minute) = self.per_minute {
            entry["perMinute"] = json!(per_minute);
        }
        if let Some(concurrent) = self.concurrent {
            entry["concurrent"] = json!(concurrent);
        }
        if self.admin {
            entry["admin"] = json!(true);
        }
        (name, entry.to_string())
    }

    /// Makes the key and writes both.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn run(&self, mut output: impl Write, mut notes: impl Write) -> io::Result<()> {
        let key = new_key();
        let (name, entry) = self.entry(&key);
        let patch = json!({"stringData": {(name.as_str()): entry.as_str()}}).to_string();
        // A quote in a user's name would end the shell's word.
        let patch = patch.replace('\'', r"'\''");
        writeln!(
            notes,
            "The key stands on standard output and nowhere else. Its entry, for the file or the Secret:\n"
        )?;
        writeln!(notes, "  {name}: {entry}\n")?;
        writeln!(
            notes,
            "  kubectl -n codeexec patch secret {} -p '{patch}'\n",
            self.api_keys_secret
        )?;
        notes.flush()?;
        writeln!(output, "{key}")?;
        output.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::super::format::Keys;
    use super::*;

    #[test]
    fn what_it_shows_lets_its_key_in() {
        for (user, name) in [("alice", "alice"), ("o'neil@example.com", "o-neil-example.com")] {
            let command = NewKey::try_parse_from(["new-key", user, "--per-minute", "7", "--admin"]).unwrap();
            let key = new_key();
            let (entry_name, entry) = command.entry(&key);
            assert_eq!(entry_name, name);
            let (keys, problems) = Keys::read([(entry_name.as_str(), entry.into_bytes())].into_iter());
            assert_eq!(problems, []);
            let identity = keys.find(&key).unwrap();
            assert_eq!((identity.user.as_str(), identity.is_admin), (user, true));
            assert_eq!(identity.limits.per_minute, Some(7));
        }
    }

    #[test]
    fn the_key_is_on_standard_output_only() {
        let command = NewKey::try_parse_from(["new-key", "alice"]).unwrap();
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        command.run(&mut output, &mut notes).unwrap();
        let (output, notes) = (
            String::from_utf8(output).unwrap(),
            String::from_utf8(notes).unwrap(),
        );
        assert!(!notes.contains(output.trim()));
        assert!(notes.contains(&KeyHash::of(output.trim()).to_string()), "{notes}");
    }

    #[test]
    fn a_name_that_nobody_can_have_is_refused() {
        assert!(NewKey::try_parse_from(["new-key", "system:admin"]).is_err());
        assert!(NewKey::try_parse_from(["new-key"]).is_err());
    }
}
