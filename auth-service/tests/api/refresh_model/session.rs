//! What the rules say of a session and its refresh tokens.

use std::time::Duration;

use tonic::Code;

pub const INSTANT: Duration = Duration::from_micros(1);
pub const OVERTAKEN: Duration = Duration::from_secs(10);
pub const GRACE: Duration = Duration::from_secs(60);
pub const IDLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const LONGEST: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// How many rotations the service remembers of a session.
pub const REMEMBERED: usize = 2;

/// How a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A pair, with this one of the session's refresh tokens.
    Token(usize),
    Superseded,
    Reused,
    Invalid,
    LoggedOut,
    /// None that the rules know.
    Other(Code),
}

/// What the rules say of a session. Tokens are counted from the login's, which is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When each token was exchanged for the next.
    pub rotations: Vec<Duration>,
    pub expires: Duration,
    pub ends: Duration,
    /// If it was ended: how its tokens are answered since.
    pub ended: Option<Answer>,
}

impl Session {
    pub fn begin(now: Duration) -> Self {
        Self { rotations: Vec::new(), expires: now + IDLE, ends: now + LONGEST, ended: None }
    }

    /// The answer to a token, for one who remembers so many rotations: when the token's child was exchanged is known
    /// exactly, or else at the latest.
    pub fn judge(&self, token: usize, now: Duration, remembered: usize) -> Answer {
        if let Some(answer) = self.ended {
            return answer;
        }
        if self.expires <= now {
            return Answer::Invalid;
        }
        let since = |token: usize| self.rotations.get(token).map(|at| now.saturating_sub(*at));
        let child = (token + 1).max(self.rotations.len().saturating_sub(remembered));
        match (since(token), since(child)) {
            (None, _) => Answer::Token(token + 1),
            (Some(age), None) if age <= GRACE => Answer::Token(token + 1),
            (Some(_), Some(age)) if age <= OVERTAKEN => Answer::Superseded,
            _ => Answer::Reused,
        }
    }

    /// What the good token is exchanged for is good from now on. A theft is answered here, and acted on later.
    pub fn refresh(&mut self, token: usize, now: Duration) -> Answer {
        let answer = self.judge(token, now, REMEMBERED);
        if answer == Answer::Token(self.rotations.len() + 1) {
            self.rotations.push(now);
            self.expires = self.ends.min(now + IDLE);
        }
        answer
    }

    /// Adds every state that the session can be in after these steps, in any order, with these answers.
    pub fn after(self, now: Duration, steps: &[(Step, Answer)], states: &mut Vec<Self>) {
        if steps.is_empty() && !states.contains(&self) {
            return states.push(self);
        }
        for (index, &(step, seen)) in steps.iter().enumerate().filter(|(index, step)| !steps[..*index].contains(step)) {
            let (mut next, mut rest) = (self.clone(), steps.to_vec());
            rest.remove(index);
            let answer = match step {
                Step::Refresh(token) => next.refresh(token, now),
                Step::Logout(_) => Answer::LoggedOut,
                Step::Theft => Answer::Reused,
            };
            match step {
                Step::Logout(_) => _ = next.ended.get_or_insert(Answer::Invalid),
                Step::Theft => _ = next.ended.get_or_insert(Answer::Reused),
                Step::Refresh(_) if self.ended.is_some() || answer != Answer::Reused => {}
                Step::Refresh(_) => rest.push((Step::Theft, answer)),
            }
            if answer == seen {
                next.after(now, &rest, states);
            }
        }
    }

    /// Whether a token can be presented, and nothing is changed by that.
    pub fn is_indifferent_to(&self, token: usize, now: Duration) -> bool {
        let mut next = self.clone();
        let theft = next.refresh(token, now) == Answer::Reused && self.ended.is_none();
        next == *self && !theft
    }

    /// Whether an answer is the contract's, or laxer by no more than the service documents: where it has forgotten when
    /// a child was exchanged, it may take the earliest rotation that it knows for that one.
    pub fn keeps_contract(&self, token: usize, now: Duration, answer: Answer) -> bool {
        let contract = self.judge(token, now, usize::MAX);
        let known = self.rotations.iter().nth_back(REMEMBERED - 1);
        let unknown = token + 1 + REMEMBERED < self.rotations.len();
        let lax = unknown && known.is_some_and(|at| now.saturating_sub(*at) <= OVERTAKEN);
        answer == contract || lax && (contract, answer) == (Answer::Reused, Answer::Superseded)
    }
}

/// What happens to a session at one instant. That a theft ends it is a step of its own: other calls may come between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Refresh(usize),
    Logout(usize),
    Theft,
}
