//! What the quick start shows: headings, facts, and the progress of an apply from the provider's own log.
use std::io::{BufRead, BufReader, IsTerminal, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Prints a line or paragraph.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n── {text} {}", "─".repeat(90_usize.saturating_sub(text.chars().count())));
}

/// Prints a name and what is to be known of it.
pub(crate) fn fact(name: &str, text: &str) {
    println!("  {name:<26} {text}");
}

/// The lines of an output that matter, without the frame.
pub(crate) fn lines(output: &str, wanted: impl Fn(&str) -> bool) -> String {
    let found: Vec<String> =
        output.lines().filter(|line| wanted(line.trim())).map(|line| format!("  {}", line.trim())).collect();
    found.join("\n")
}

/// The line that says what an apply did.
pub(crate) fn summary(output: &str) -> String {
    lines(output, |line| line.starts_with("Apply complete!") || line.starts_with("Destroy complete!"))
}

/// Follows an apply by the log of the provider.
pub(crate) struct Follow {
    reader: Option<BufReader<std::fs::File>>,
    line: String,
    percent: bool,
}

impl Follow {
    /// Runs a command, and shows the steps that the provider writes to `log` meanwhile. Gives the command's output.
    pub(crate) fn run(mut command: Command, log: &Path) -> Result<String, String> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("the CLI can't be started: {error}"))?;
        let mut follow = Follow { reader: None, line: String::new(), percent: false };
        while child.try_wait().map_err(|error| error.to_string())?.is_none() {
            follow.look(log);
            std::thread::sleep(Duration::from_millis(50));
        }
        follow.look(log);
        follow.end_percent();
        let out = child.wait_with_output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            return Ok(text);
        }
        Err(format!("apply failed:\n{text}{}", String::from_utf8_lossy(&out.stderr)))
    }

    fn look(&mut self, log: &Path) {
        if self.reader.is_none() {
            self.reader = std::fs::File::open(log).ok().map(BufReader::new);
        }
        let Some(mut reader) = self.reader.take() else { return };
        loop {
            let read = reader.read_line(&mut self.line);
            if !matches!(read, Ok(1..)) || !self.line.ends_with('\n') {
                break;
            }
            let line = std::mem::take(&mut self.line);
            self.show(&line);
        }
        self.reader = Some(reader);
    }

    fn show(&mut self, line: &str) {
        if let (Some(task), Some(percent)) =
            (value(line, "task"), value(line, "percent").and_then(|text| text.parse().ok()))
        {
            if !stdout().is_terminal() {
                return;
            }
            let filled = usize::from(u8::min(percent, 100)) / 4;
            print!("\r    {task:<10} [{}{}] {percent:>3} %", "█".repeat(filled), "░".repeat(25 - filled));
            // What can't be shown is no reason to stop.
            let _ = stdout().flush();
            self.percent = true;
        } else if let Some(step) = value(line, "step").filter(|_| line.contains(": move")) {
            self.end_percent();
            fact(&step, what(&step));
        }
    }

    fn end_percent(&mut self) {
        if std::mem::take(&mut self.percent) {
            println!();
        }
    }
}

/// The value of `name=…` in a log line.
fn value(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!("{name}="))? + name.len() + 1;
    Some(line[start..].split_whitespace().next()?.trim_matches('"').to_owned())
}

/// What a step does, for people.
fn what(step: &str) -> &'static str {
    match step {
        "Taken" => "take the operation on both clusters: nobody else moves this machine now",
        "Shutdown" => "shut the guest down, cleanly",
        "Onboot" => "fence 1: the source no longer starts with its node",
        "Backup" => "final backup to the transfer storage, proved to be of a machine that stood still",
        "Fence" => "fence 2: nobody can start or remove the source",
        "Transfer" => "the target sees the archive, whole",
        "Restore" => "restore on the target, with its storage, bridge and VLAN; links down",
        "Spread" => "disks that belong on other storages there move on to them (here: none)",
        "Verify" => "compare the target with the source, key by key",
        "Live" => "RECORD \"LIVE\" ON BOTH SIDES: from here it only goes forward",
        "Start" => "links up, start",
        "Health" => "is the guest well? (this configuration asks nothing)",
        "Commit" => "start on boot, protection, notes",
        "Retire" => "remove the source and the archive (this configuration asks for that)",
        "Release" => "give the operation back",
        _ => "",
    }
}
