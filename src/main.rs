//! The `tarsia` command.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A reader that closes the pipe early (`tarsia inspect … | head`) ends the program without a message.
    sigpipe::reset();
    let arguments = command::Arguments::parse();
    command::log(arguments.verbose);
    match command::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{} {error}", command::paint_error("error:"));
            ExitCode::from(if error.is_internal() { 1 } else { 2 })
        }
    }
}
