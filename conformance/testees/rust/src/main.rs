//! An implementation of the XTrack protocol's codec roles, written from the specification alone, behind the testee
//! protocol of the conformance suite.
//!
//! `protocol` is the implementation; `testee` speaks to the suite; `json` serves both.

mod json;
mod protocol;
mod testee;

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match serve(io::stdin().lock(), BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtrack-testee: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answer each line in its turn, until there are no more.
fn serve(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut testee = testee::Testee::default();
    for line in input.lines() {
        let answer = testee
            .answer(&line?)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        output.write_all(answer.as_bytes())?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}
