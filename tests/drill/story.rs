//! The story, once for each balancer: a quiet day, `web-02` is taken out for a test and forgotten, more and more users
//! come. What then happens is up to the balancer; this only watches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lb_tests::testbed::interrupt::{self, Interrupted};
use lb_tests::testbed::load::{Load, Tally};
use lb_tests::testbed::rollcall::Answer;
use serde_json::Value;

use crate::curtain::Curtain;
use crate::events::{self, Journal};
use crate::model;
use crate::narrator::Narrator;
use crate::outcome::{Outcome, Return, Told};
use crate::stage::{NAMES, Stage};
use crate::trainee::Trainee;

/// Whose story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A balancer that forwards and probes, and does nothing else.
    Plain,
    /// Rollcall; the drain has half an hour, so that memory is what calls the server back.
    Recall,
    /// Rollcall; the drain is short, so that its end brings the server back.
    LeaseEnd,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Recall => "recall",
            Self::LeaseEnd => "lease-end",
        }
    }

    /// For how long `web-02` is drained.
    const fn lease(self) -> &'static str {
        match self {
            Self::Plain => "ever",
            Self::Recall => "30m",
            Self::LeaseEnd => "30s",
        }
    }
}

/// When things happen, since the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `web-02` is taken out.
    pub drain: Duration,
    /// The first of the additional users come.
    pub rise: Duration,
    /// Time between two groups of them.
    pub step: Duration,
    /// For how long it is shown that the dead stay dead.
    pub after_death: Duration,
    /// For how long it is shown that two carry it; long enough for an alert on what stands for half a minute.
    pub after_return: Duration,
}

impl Pace {
    /// For people.
    pub const SHOW: Self = Self {
        drain: Duration::from_secs(8),
        rise: Duration::from_secs(15),
        step: Duration::from_secs(2),
        after_death: Duration::from_secs(20),
        after_return: Duration::from_secs(40),
    };

    /// For people who are to act.
    pub const TRAINING: Self = Self {
        drain: Duration::from_secs(10),
        rise: Duration::from_secs(40),
        step: Duration::from_secs(4),
        after_death: Duration::from_secs(20),
        after_return: Duration::from_secs(40),
    };

    /// For tests.
    pub const QUICK: Self = Self {
        drain: Duration::from_secs(2),
        rise: Duration::from_secs(3),
        step: Duration::from_secs(1),
        after_death: Duration::from_secs(5),
        after_return: Duration::from_secs(5),
    };
}

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Time between two lines on how things stand.
const LINE_S: f64 = 5.0;

/// One balancer's story as it goes on.
struct Play<'a> {
    kind: Kind,
    narrator: &'a Narrator,
    journal: Option<Journal>,
    loads: Vec<Load>,
    users: usize,
    alerts_seen: usize,
    next_line: f64,
    outcome: Outcome,
}

/// Tells one story to its end.
pub fn tell(
    stage: &mut Stage,
    kind: Kind,
    pace: Pace,
    curtain: &Curtain,
    narrator: &Narrator,
    mut trainee: Option<&mut Trainee>,
) -> Result<Outcome, Interrupted> {
    let journal = (kind != Kind::Plain).then(|| Journal::follow(stage));
    let outcome = Outcome::new(kind);
    let loads = vec![stage.users(model::QUIET)];
    let mut play =
        Play { kind, narrator, journal, loads, users: model::QUIET, alerts_seen: 0, next_line: LINE_S, outcome };
    let seconds = |time: Duration| time.as_secs_f64();
    let mut drain_due = true;
    let mut groups: VecDeque<f64> =
        (0..model::GROUPS as u32).map(|group| seconds(pace.rise + pace.step * group)).collect();
    while !curtain.is_down() {
        interrupt::check()?;
        let now = narrator.now();
        if drain_due && now >= seconds(pace.drain) {
            drain_due = false;
            play.take_out(stage);
        }
        if groups.pop_front_if(|due| *due <= now).is_some() {
            play.loads.push(stage.users(model::GROUP));
            play.users += model::GROUP;
            if groups.is_empty() {
                narrator.say(kind.name(), &format!("{} users now: the peak", play.users));
            }
        }
        if let Some(trainee) = trainee.as_deref_mut() {
            trainee.act(stage, narrator, kind.name());
        }
        play.watch(stage);
        if groups.is_empty() && play.is_told(pace, now) {
            curtain.done(kind);
        }
        interrupt::wait_until(Instant::now() + LOOK)?;
    }
    play.outcome.ended = narrator.now();
    Ok(play.end(stage))
}

impl Play<'_> {
    fn say(&self, text: &str) {
        self.narrator.say(self.kind.name(), text);
    }

    /// `web-02` is taken out for a test. The plain balancer is told nothing of it but that the server is gone.
    fn take_out(&mut self, stage: &Stage) {
        self.outcome.out = Some(self.narrator.now());
        if self.kind == Kind::Plain {
            stage.forget_web_02();
            self.say("web-02 is taken off the list for a test; nobody is asked, nobody is told");
            return;
        }
        let length = self.kind.lease();
        let take = ["backend", "drain", "web-02", "--for", length, "--reason", "kernel test", "--owner", "ada"];
        self.say(&format!("ada: rollcall backend drain web-02 --for {length} --reason 'kernel test'"));
        let asked = stage.rollcall.cli(&stage.bed, &take);
        let done = if asked.code == 0 { asked } else { self.insist(stage, &take, &asked) };
        assert_eq!(done.code, 0, "web-02 cannot be drained: {}", done.stderr);
        self.answer(&done.stdout);
        self.say("ada begins her test, and forgets it");
    }

    /// The balancer warned; ada is in a hurry.
    fn insist(&mut self, stage: &Stage, take: &[&str], asked: &Answer) -> Answer {
        self.outcome.warning = Some(asked.stderr.trim().to_owned());
        self.answer(&asked.stderr);
        self.say("ada is in a hurry: the same with --yes");
        stage.rollcall.cli(&stage.bed, &[take, &["--yes"]].concat())
    }

    fn answer(&self, text: &str) {
        text.lines().filter(|line| !line.trim().is_empty()).for_each(|line| self.say(&format!("    | {line}")));
    }

    /// Looks at everything once.
    fn watch(&mut self, stage: &mut Stage) {
        let now = self.narrator.now();
        let headrooms = [stage.servers[0].headroom(), stage.servers[1].headroom()];
        if headrooms[0] < self.outcome.least.0 {
            self.outcome.least = (headrooms[0], now);
        }
        for (index, server) in stage.servers.iter_mut().enumerate() {
            if self.outcome.killed[index].is_none() && server.is_killed() {
                self.outcome.killed[index] = Some(now);
                self.say(&format!("{} is dead: its memory ran out, and the kernel killed it", NAMES[index]));
            }
        }
        for event in self.journal.as_mut().map(Journal::new_events).unwrap_or_default() {
            self.note_event(event);
        }
        let alerts = stage.receiver.as_ref().map(|receiver| receiver.all()).unwrap_or_default();
        for alert in alerts.iter().skip(self.alerts_seen) {
            let told = Told::new(now, alert);
            self.narrator.say_at(now, self.kind.name(), &told.in_words());
            self.outcome.told.push(told);
        }
        self.alerts_seen = alerts.len();
        if now >= self.next_line {
            self.next_line = now + LINE_S;
            self.line(headrooms);
        }
    }

    fn note_event(&mut self, event: Value) {
        let Some(at) = event["time"].as_str().and_then(|time| self.narrator.at_time(time)).filter(|at| *at >= 0.0)
        else {
            return;
        };
        self.narrator.say_at(at, self.kind.name(), &events::in_words(&event));
        if event["backend"] == "web-02" && self.outcome.out.is_some_and(|out| at >= out) {
            let how = |why: &str| Some((why.to_owned(), event["cause"].as_str().unwrap_or_default().to_owned()));
            match event["kind"].as_str() {
                Some("recalled") => self.outcome.return_of = how("recalled"),
                Some("lease_ended") => self.outcome.return_of = how("its lease ended"),
                Some("restored") => self.outcome.return_of = how("restored by hand"),
                Some("lease_ending") => self.outcome.reminded = Some(at),
                Some("in_rotation") if self.outcome.back.is_none() => {
                    let (how, why) = self.outcome.return_of.clone().unwrap_or_default();
                    self.outcome.back = Some(Return { at, how, why });
                }
                _ => {}
            }
        }
    }

    /// How things stand.
    fn line(&self, headrooms: [f64; 2]) {
        let tally = self.sum();
        let free = |index: usize| match self.outcome.killed[index] {
            Some(_) => "dead     ".to_owned(),
            None => format!("{:3.0} % free", 100.0 * headrooms[index]),
        };
        let out = match (&self.outcome.out, &self.outcome.back) {
            (Some(_), None) => ", out",
            _ => "     ",
        };
        self.say(&format!(
            "{:3} users   web-01 {}   web-02 {}{out}   {} answered, {} failed",
            self.users,
            free(0),
            free(1),
            tally.answered,
            tally.failures.len()
        ));
    }

    fn sum(&self) -> Tally {
        self.loads.iter().fold(Tally::default(), |mut sum, load| {
            sum.add(&load.so_far());
            sum
        })
    }

    /// Whether the story has come to its point, and that was shown for long enough.
    fn is_told(&self, pace: Pace, now: f64) -> bool {
        let past = |point: Option<f64>, time: Duration| point.is_some_and(|at| now >= at + time.as_secs_f64());
        let back = self.outcome.back.as_ref().map(|back| back.at);
        past(self.outcome.killed[0], pace.after_death) || past(back, pace.after_return)
    }

    fn end(mut self, stage: &mut Stage) -> Outcome {
        self.next_line = f64::INFINITY;
        let loads = std::mem::take(&mut self.loads);
        loads.iter().for_each(Load::begin_to_stop);
        let tally = loads.into_iter().map(Load::stop).fold(Tally::default(), |mut sum, tally| {
            sum.add(&tally);
            sum
        });
        let failures = tally.failures.iter();
        self.outcome.failures = failures.map(|f| (self.narrator.at(f.at), f.reason.clone())).collect();
        self.outcome.answered = tally.answered;
        self.outcome.slowest = tally.slowest;
        self.watch(stage);
        if self.kind != Kind::Plain {
            let since = self.narrator.begun().to_string();
            let report = stage.rollcall.cli(&stage.bed, &["report", "--since", &since]);
            assert_eq!(report.code, 0, "report: {}", report.stderr);
            self.outcome.report = Some(report.stdout);
        }
        self.outcome
    }
}
