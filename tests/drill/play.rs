//! Builds the stages, lets the stories run side by side on one clock, and takes the stages down.

use std::thread::{self, ScopedJoinHandle};

use lb_tests::testbed::interrupt::{self, Interrupted};

use crate::curtain::Curtain;
use crate::model;
use crate::narrator::Narrator;
use crate::outcome::Outcome;
use crate::page::Page;
use crate::stage::Stage;
use crate::story::{self, Kind, Pace};
use crate::trainee::Trainee;

/// Plays all of it.
pub fn run(kinds: &[Kind], pace: Pace, interactive: bool) -> Result<Page, Interrupted> {
    eprintln!("building {} times: hosts, two servers with little memory, and a balancer", kinds.len());
    let mut stages: Vec<Stage> = thread::scope(|scope| {
        let building: Vec<_> = kinds.iter().map(|&kind| scope.spawn(move || Stage::build(kind))).collect();
        building.into_iter().map(join).collect()
    });
    interrupt::check()?;
    eprintln!("\n{}", model::text());
    let mut trainee = interactive.then(Trainee::listen);
    if trainee.is_some()
        && let Some(index) = kinds.iter().position(|kind| *kind != Kind::Plain)
    {
        eprintln!("{}", Trainee::guide(&stages[index]));
    }
    let (curtain, narrator) = (Curtain::new(kinds), Narrator::begin());
    let outcomes: Vec<Result<Outcome, Interrupted>> = thread::scope(|scope| {
        let (curtain, narrator) = (&curtain, &narrator);
        let mut own = trainee.as_mut();
        let mut telling = Vec::new();
        for (&kind, stage) in kinds.iter().zip(&mut stages) {
            let trainee = if kind == Kind::Plain { None } else { own.take() };
            telling.push(scope.spawn(move || story::tell(stage, kind, pace, curtain, narrator, trainee)));
        }
        telling.into_iter().map(join).collect()
    });
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Page::new(outcomes, narrator.lines(), trainee.map(Trainee::deeds)))
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
