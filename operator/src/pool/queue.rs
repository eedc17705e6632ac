//! Whose turn it is: users take turns, and each user's own executions come in the order in which they were made.

use std::collections::{HashMap, VecDeque};

/// Executions that wait, by user.
///
/// A user with many of them waits for his own only: one of each other user's comes in between.
#[derive(Debug, Default)]
pub struct FairQueue {
    /// Users who wait for something, the next one first.
    users: VecDeque<String>,
    /// Their executions' uids, the oldest first.
    waiting: HashMap<String, VecDeque<String>>,
}

impl FairQueue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Adds an execution behind its user's others.
    pub fn push(&mut self, user: &str, uid: &str) {
        let own = self.waiting.entry(user.to_owned()).or_default();
        if own.is_empty() {
            self.users.push_back(user.to_owned());
        }
        own.push_back(uid.to_owned());
    }

    /// Puts an execution back whose turn it was.
    pub fn push_front(&mut self, user: &str, uid: &str) {
        self.users.retain(|other| other != user);
        self.users.push_front(user.to_owned());
        self.waiting
            .entry(user.to_owned())
            .or_default()
            .push_front(uid.to_owned());
    }

    /// Takes the execution whose turn it is. Its user goes to the end.
    pub fn pop(&mut self) -> Option<String> {
        let user = self.users.pop_front()?;
        let own = self.waiting.get_mut(&user)?;
        let uid = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&user);
        } else {
            self.users.push_back(user);
        }
        uid
    }

    /// The execution whose turn it is.
    pub fn first(&self) -> Option<&str> {
        let own = self.waiting.get(self.users.front()?)?;
        own.front().map(String::as_str)
    }

    /// Takes an execution out, wherever it stands.
    pub fn remove(&mut self, uid: &str) {
        for own in self.waiting.values_mut() {
            own.retain(|other| other != uid);
        }
        self.waiting.retain(|_, own| !own.is_empty());
        let waiting = &self.waiting;
        self.users.retain(|user| waiting.contains_key(user));
    }

    /// How many turns come before that of each execution, by uid.
    pub fn positions(&self) -> HashMap<&str, usize> {
        let mut positions = HashMap::new();
        let longest = self.waiting.values().map(VecDeque::len).max().unwrap_or(0);
        for round in 0..longest {
            let turn = self
                .users
                .iter()
                .filter_map(|user| self.waiting.get(user)?.get(round));
            for uid in turn {
                positions.insert(uid.as_str(), positions.len());
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(entries: &[(&str, &str)]) -> FairQueue {
        let mut queue = FairQueue::default();
        entries.iter().for_each(|(user, uid)| queue.push(user, uid));
        queue
    }

    fn order(mut queue: FairQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn users_take_turns_and_each_one_s_oldest_comes_first() {
        let entries = [
            ("a", "a1"),
            ("a", "a2"),
            ("a", "a3"),
            ("b", "b1"),
            ("c", "c1"),
            ("b", "b2"),
        ];
        assert_eq!(order(queue(&entries)), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn whoever_is_put_back_comes_next() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        assert_eq!(queue.pop().as_deref(), Some("a1"));
        queue.push_front("a", "a1");
        queue.push_front("c", "c1");
        assert_eq!(order(queue), ["c1", "a1", "b1", "a2"]);
    }

    #[test]
    fn positions_are_the_order_in_which_turns_come() {
        let queue = queue(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")]);
        let mut positions: Vec<_> = queue
            .positions()
            .into_iter()
            .map(|(uid, at)| (at, uid.to_owned()))
            .collect();
        positions.sort();
        let told: Vec<String> = positions.into_iter().map(|(_, uid)| uid).collect();
        assert_eq!(told, order(queue));
    }

    #[test]
    fn whoever_leaves_holds_up_nobody() {
        let mut queue = queue(&[("a", "a1"), ("b", "b1"), ("b", "b2")]);
        queue.remove("a1");
        queue.remove("b1");
        queue.remove("unknown");
        assert_eq!(queue.len(), 1);
        assert_eq!(order(queue), ["b2"]);
    }
}
