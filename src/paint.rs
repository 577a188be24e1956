//! The few colours, each with one meaning.

use colored::Colorize as _;

pub fn good(text: &str) -> String {
    text.green().to_string()
}

pub fn warning(text: &str) -> String {
    text.yellow().to_string()
}

pub fn bad(text: &str) -> String {
    text.red().to_string()
}

pub fn faint(text: &str) -> String {
    text.dimmed().to_string()
}

pub fn strong(text: &str) -> String {
    text.bold().to_string()
}
