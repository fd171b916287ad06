//! Owns what a command says and ends with.
use serde::Serialize;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing is wrong: 0.
    Fine,
    /// Something is wrong with the federation or its file, or a machine has no cluster: 1.
    Problems,
    /// The command can't be carried out as it was given: 2.
    Misuse,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Problems => 1,
            Exit::Misuse => 2,
        }
    }

    pub(crate) fn fine_if(fine: bool) -> Exit {
        if fine { Exit::Fine } else { Exit::Problems }
    }
}

/// What a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// How it ended.
    pub exit: Exit,
}

impl Output {
    pub(crate) fn new(stdout: String, exit: Exit) -> Output {
        Output { stdout, stderr: String::new(), exit }
    }

    /// A value for programs.
    pub(crate) fn json(value: &impl Serialize, exit: Exit) -> Output {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Output::new(text + "\n", exit),
            Err(error) => Output { stdout: String::new(), stderr: format!("federate: {error}\n"), exit: Exit::Misuse },
        }
    }
}

/// A command that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) exit: Exit,
}

impl Wrong {
    pub(crate) fn misuse(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), exit: Exit::Misuse }
    }

    pub(crate) fn problem(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), exit: Exit::Problems }
    }

    pub(crate) fn output(self, json: bool) -> Output {
        let stdout = if json { format!("{}\n", serde_json::json!({ "error": self.message })) } else { String::new() };
        Output { stdout, stderr: format!("federate: {}\n", self.message), exit: self.exit }
    }
}

/// "1 problem", "2 problems".
pub(crate) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
