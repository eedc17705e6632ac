//! What this process knows of all pools.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use codeexec_crds::{ExecutorPool, ExecutorPoolSpec};
use tokio::sync::{Notify, SetOnce, oneshot};

use super::idle::{IdlePod, WarmPod};
use super::place::{Place, Refused, Turn};
use super::plan::{MOST_STARTING, QUIET};
use super::queue::FairQueue;
use super::returning::{Promised, Returning};
use super::status::Told;
use super::used::{Reuse, UsedPods};
use crate::driver::Context;
use crate::observe::PodView;
use crate::pod::REPORT_SECONDS;

/// How long an execution is in a hurry after its turn came: most have ended by then, and the others run programs
/// to which a few milliseconds are nothing.
const HURRY: Duration = Duration::from_millis(500);

/// Over how long a pool's pace is taken.
const PACE_WINDOW: Duration = Duration::from_secs(30);

/// Fewest executions that make a pace.
const PACE_SAMPLES: usize = 8;

/// First pause after a Pod that did not come up; doubled by each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// All pools.
#[derive(Default)]
pub struct Pools {
    pools: Mutex<HashMap<String, Pool>>,
    /// The Pods that there were at the start have all been told.
    pods_known: SetOnce<()>,
    /// Something changed that the keeper should look at.
    pub(super) changed: Arc<Notify>,
}

/// One pool.
#[derive(Default)]
pub struct Pool {
    /// The object; nothing where it does not exist, such as `default` where it was never made.
    pub object: Option<Arc<ExecutorPool>>,
    /// Idle Pods by name.
    pub idle: BTreeMap<String, IdlePod>,
    /// Pods that have served, and wait for the same user.
    pub used: UsedPods,
    /// Those that are being made clean for that, and who waits for them.
    pub returning: Returning,
    /// Names of Pods that were idle, and are in somebody's hands: a late event must not make them idle again.
    taken: HashSet<String>,
    /// Requests for idle Pods that have no answer yet.
    pub creating: usize,
    /// Executions that wait.
    pub queue: FairQueue,
    waiting: HashMap<String, Waiting>,
    /// Executions whose turn it is, by uid.
    holders: HashMap<String, Holder>,
    /// When the last of them was under way.
    quiet_since: Option<Instant>,
    left: VecDeque<Instant>,
    /// Since when Pods have been missing.
    pub short_since: Option<Instant>,
    /// Pods that did not come up, one after the other, and why the last one did not.
    pub failures: u32,
    pub problem: Option<(&'static str, String)>,
    pub pause_until: Option<Instant>,
    /// Fingerprint of the Pods that it would make today.
    pub template: Option<String>,
    /// Whether something is required that can only be said once the network is known.
    pub waits_for_network: bool,
    /// What its status was last told.
    pub told: Told,
}

#[derive(Clone, Copy)]
struct Holder {
    /// It is starting a Pod of its own.
    starting: bool,
    since: Instant,
}

/// An execution without a turn yet.
pub struct Waiting {
    /// Whose it is.
    pub user: String,
    pub turn_tx: oneshot::Sender<Turn>,
    /// How much life a Pod must have left to be of use.
    pub life: Duration,
    pub warm: bool,
    /// It may be promised a Pod that is on its way back.
    pub patient: bool,
}

/// What an execution wants of its pool.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The pool.
    pub pool: &'a str,
    /// The execution.
    pub uid: &'a str,
    /// Whose it is.
    pub user: &'a str,
    /// Its timeout.
    pub timeout: Duration,
    /// How long it can still wait.
    pub patience: Duration,
    /// Whether an idle Pod will do. Not where somebody else may have begun with the execution: a Pod of its own
    /// is found by its name, and its name in the status is what the other one would stumble over.
    pub warm: bool,
}

impl Pools {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<String, Pool>> {
        // A panic elsewhere can't have left a pool half written: each change is one call on plain data.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that every Pod has been told that there was at the start.
    pub fn pods_are_known(&self) {
        // Told once in a process's life; a second time would say the same.
        let _ = self.pods_known.set(());
    }

    /// Waits for that: a pool without Pods and one whose Pods nobody has told yet look alike.
    pub(super) async fn until_pods_are_known(&self) {
        self.pods_known.wait().await;
    }

    /// Makes the keeper look at everything.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// How long no execution has been in a hurry, in any pool; nothing while one is.
    pub(super) fn quiet_for(pools: &HashMap<String, Pool>) -> Option<Duration> {
        let mut each = pools.values().map(Pool::quiet_for);
        each.try_fold(Duration::MAX, |shortest, quiet| Some(shortest.min(quiet?)))
    }

    /// Waits for a moment in which what nobody waits for disturbs nobody, but not longer than this.
    pub async fn quiet(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while Instant::now() < until && Self::quiet_for(&self.lock()).is_none_or(|quiet| quiet < QUIET) {
            tokio::time::sleep(QUIET / 2).await;
        }
    }

    /// The spec of a pool that exists, as the watch last told it.
    #[must_use]
    pub fn spec(&self, pool: &str) -> Option<ExecutorPoolSpec> {
        let pools = self.lock();
        let object = pools.get(pool)?.object.as_ref()?;
        Some(object.spec.clone())
    }

    /// Gets in line.
    ///
    /// # Errors
    /// When the pool takes no more.
    pub fn enter(self: &Arc<Self>, wish: &Wish<'_>) -> Result<Place, Refused> {
        let mut pools = self.lock();
        let pool = pools.entry(wish.pool.to_owned()).or_default();
        let (turn_tx, turn_rx) = oneshot::channel();
        let waiting = Waiting {
            user: wish.user.to_owned(),
            turn_tx,
            life: life_for(wish.timeout),
            warm: wish.warm,
            patient: wish.warm,
        };
        let before = pool.queue.len();
        pool.queue.push(wish.user, wish.uid);
        pool.waiting.insert(wish.uid.to_owned(), waiting);
        pool.advance();
        // Whoever was begun with is never turned away.
        if wish.warm
            && pool.waiting.contains_key(wish.uid)
            && let Some(refused) = pool.refuses(wish, before)
        {
            pool.queue.remove(wish.uid);
            pool.waiting.remove(wish.uid);
            return Err(refused);
        }
        self.changed.notify_one();
        Ok(Place::new(
            self.clone(),
            wish.pool,
            wish.user,
            wish.uid,
            Some(turn_rx),
        ))
    }

    /// Counts an execution that has a Pod already.
    pub fn occupy(self: &Arc<Self>, pool: &str, user: &str, uid: &str) -> Place {
        self.lock()
            .entry(pool.to_owned())
            .or_default()
            .holders
            .insert(uid.to_owned(), Holder::begun(false));
        Place::new(self.clone(), pool, user, uid, None)
    }

    pub(super) fn leave(&self, name: &str, uid: &str) {
        let mut pools = self.lock();
        let Some(pool) = pools.get_mut(name) else { return };
        pool.queue.remove(uid);
        pool.waiting.remove(uid);
        pool.returning.remove(uid);
        if pool.holders.remove(uid).is_some() {
            let now = Instant::now();
            pool.quiet_since = Some(now);
            pool.left.push_back(now);
            while pool.left.front().is_some_and(|left| now - *left > PACE_WINDOW) {
                pool.left.pop_front();
            }
        }
        pool.advance();
        self.changed.notify_one();
    }

    pub(super) fn set_starting(&self, name: &str, uid: &str, starting: bool) {
        let mut pools = self.lock();
        if let Some(pool) = pools.get_mut(name) {
            pool.holders.insert(uid.to_owned(), Holder::begun(starting));
            pool.advance();
        }
        self.changed.notify_one();
    }

    pub(super) fn another(&self, name: &str, uid: &str, timeout: Duration) -> Option<Box<WarmPod>> {
        let mut pools = self.lock();
        let pool = pools.get_mut(name)?;
        pool.holders.get(uid)?;
        pool.take_ready(life_for(timeout)).map(Box::new)
    }

    /// Takes a Pod back: an idle one for everybody, one that has served for its user alone.
    pub fn put_back(&self, name: &str, user: &str, warm: WarmPod) {
        let mut pools = self.lock();
        let pool = pools.entry(name.to_owned()).or_default();
        pool.put_back(user, warm);
        pool.advance();
        self.changed.notify_one();
    }

    /// Notes that a Pod is being made clean for its user's next execution.
    pub fn comes_back(self: &Arc<Self>, name: &str, user: &str) -> ComingBack {
        let mut pools = self.lock();
        pools.entry(name.to_owned()).or_default().returning.begin(user);
        ComingBack {
            pools: self.clone(),
            pool: name.to_owned(),
            user: user.to_owned(),
            since: Instant::now(),
        }
    }

    pub(super) fn position(&self, name: &str, uid: &str) -> Option<usize> {
        let pools = self.lock();
        pools.get(name)?.queue.positions().get(uid).copied()
    }

    /// Takes in what the watch says of a Pod that no execution has.
    pub fn on_idle_pod(&self, context: &Context, view: PodView) {
        let Some(name) = view.owner.clone() else { return };
        let mut pools = self.lock();
        let pool = pools.entry(name).or_default();
        if pool.taken.contains(&view.name) {
            return;
        }
        let foreign = view.operator.as_deref() != Some(&context.holder);
        let idle = pool
            .idle
            .entry(view.name.clone())
            .or_insert_with(|| IdlePod::new(view.clone(), foreign));
        idle.view = view.after(&idle.view);
        idle.attach(context, &self.changed);
        self.changed.notify_one();
    }

    /// Takes in what the watch says of a Pod that an execution has or had. Whether it waits for that one's user.
    pub fn on_used_pod(&self, view: &PodView) -> bool {
        self.lock().values_mut().any(|pool| pool.used.on_pod(view))
    }

    /// Whether a Pod waits for another execution of its user.
    #[must_use]
    pub fn is_used_pod(&self, name: &str) -> bool {
        self.lock().values().any(|pool| pool.used.has(name))
    }

    /// Forgets an idle Pod: it is gone, or an execution has it.
    pub fn forget_pod(&self, name: &str, gone: bool) {
        let mut pools = self.lock();
        for pool in pools.values_mut() {
            if gone {
                pool.used.forget(name);
            }
            let was_idle = pool.idle.remove(name).is_some();
            let was_taken = gone && pool.taken.remove(name);
            if was_idle || was_taken {
                self.changed.notify_one();
            }
        }
    }
}

/// Held for as long as a Pod is on its way back to its user. Dropping it, after the Pod was put back or has turned out
/// not to come, ends the wait of whoever hoped for it.
pub struct ComingBack {
    pools: Arc<Pools>,
    pool: String,
    user: String,
    since: Instant,
}

impl Drop for ComingBack {
    fn drop(&mut self) {
        let mut pools = self.pools.lock();
        let Some(pool) = pools.get_mut(&self.pool) else {
            return;
        };
        if let Some(promised) = pool.returning.end(&self.user, self.since.elapsed()) {
            pool.back_into_the_queue(promised);
        }
        pool.advance();
        self.pools.changed.notify_one();
    }
}

/// How much life a Pod must have left for a program with this timeout, and for the report on it.
fn life_for(timeout: Duration) -> Duration {
    timeout + Duration::from_secs(REPORT_SECONDS.unsigned_abs() + 2)
}

impl Holder {
    fn begun(starting: bool) -> Self {
        Self {
            starting,
            since: Instant::now(),
        }
    }

    fn is_in_a_hurry(&self) -> bool {
        self.starting || self.since.elapsed() < HURRY
    }
}

impl Pool {
    /// Takes back what nobody claimed: an idle Pod for everybody, one that has served for its user alone.
    fn put_back(&mut self, user: &str, mut warm: WarmPod) {
        if warm.ready.served > 0 {
            while warm.is_there()
                && let Some(promised) = self.returning.take(user, warm.life_left())
            {
                match promised.waiting.turn_tx.send(Turn::Warm(Box::new(warm))) {
                    Err(Turn::Warm(unwanted)) => warm = *unwanted,
                    _ => return,
                }
            }
            self.used.keep(user, warm);
        } else {
            self.taken.remove(&warm.view.name);
            self.idle.insert(warm.view.name.clone(), IdlePod::returned(warm));
        }
    }

    /// An execution that will not get the Pod that was promised to it: its turn is the next one again.
    fn back_into_the_queue(&mut self, promised: Promised) {
        let Promised { uid, mut waiting, .. } = promised;
        waiting.patient = false;
        self.holders.remove(&uid);
        self.queue.push_front(&waiting.user, &uid);
        self.waiting.insert(uid, waiting);
    }

    /// How far its Pods are used again.
    pub fn reuse(&self) -> Option<Reuse> {
        Reuse::of(self.object.as_ref()?.spec.reuse.as_ref())
    }

    /// How long nothing has been in a hurry here; nothing while something is.
    fn quiet_for(&self) -> Option<Duration> {
        if self.queue.len() > 0 || self.holders.values().any(Holder::is_in_a_hurry) {
            return None;
        }
        let begun = self.holders.values().map(|holder| holder.since + HURRY);
        let since = begun.chain(self.quiet_since).max();
        Some(since.map_or(Duration::MAX, |since| since.elapsed()))
    }

    /// The executions whose turn it is.
    pub fn claimed(&self) -> usize {
        self.holders.len()
    }

    /// Those of them that are starting a Pod of their own.
    pub fn cold_starts(&self) -> usize {
        self.holders.values().filter(|holder| holder.starting).count()
    }

    /// The idle Pods that would take a request at once.
    pub fn ready(&self) -> usize {
        let wait = self.waits_for_network;
        self.idle.values().filter(|idle| idle.is_ready(wait)).count()
    }

    /// Gives turns for as long as there is something to give.
    pub fn advance(&mut self) {
        let most = self
            .object
            .as_ref()
            .and_then(|object| usize::try_from(object.spec.max_concurrent?).ok());
        let came_up = self
            .idle
            .values_mut()
            .filter_map(|idle| idle.listen().then_some(()))
            .count();
        if came_up > 0 {
            self.succeeded();
        }
        for promised in self.returning.overdue() {
            self.back_into_the_queue(promised);
        }
        while most.is_none_or(|most| self.holders.len() < most)
            && let Some(uid) = self.queue.first().map(str::to_owned)
        {
            let Some(waiting) = self.waiting.get(&uid) else {
                self.queue.remove(&uid);
                continue;
            };
            let (user, life, wants_warm) = (waiting.user.clone(), waiting.life, waiting.warm);
            let own = wants_warm.then(|| self.used.take(&user, life)).flatten();
            if own.is_none() && waiting.patient && self.returning.has_one_for(&user) {
                self.queue.pop();
                if let Some(waiting) = self.waiting.remove(&uid) {
                    self.holders.insert(uid.clone(), Holder::begun(false));
                    self.returning.promise(uid, waiting);
                }
                continue;
            }
            let warm = own.or_else(|| wants_warm.then(|| self.take_ready(life)).flatten());
            let cold = warm.is_none();
            if cold && self.cold_starts() >= MOST_STARTING {
                return;
            }
            self.queue.pop();
            let Some(waiting) = self.waiting.remove(&uid) else {
                continue;
            };
            self.holders.insert(uid.clone(), Holder::begun(cold));
            let turn = warm.map_or(Turn::Cold, |warm| Turn::Warm(Box::new(warm)));
            if let Err(Turn::Warm(warm)) = waiting.turn_tx.send(turn) {
                // Nobody waits any more; its place, when dropped, leaves.
                self.put_back(&user, *warm);
            }
        }
    }

    /// The oldest ready Pod that lives long enough, those of today's template first.
    fn take_ready(&mut self, life: Duration) -> Option<WarmPod> {
        let (wait, template) = (self.waits_for_network, self.template.clone());
        let name = self
            .idle
            .values()
            .filter(|idle| idle.is_ready(wait) && idle.life_left() > life)
            .min_by_key(|idle| {
                (
                    idle.view.template != template,
                    !idle.view.marked_ready,
                    idle.view.created,
                )
            })
            .map(|idle| idle.view.name.clone())?;
        let warm = self.idle.remove(&name)?.into_warm();
        self.taken.insert(name);
        warm
    }

    fn refuses(&self, wish: &Wish<'_>, waiting: usize) -> Option<Refused> {
        let limit = self
            .object
            .as_ref()
            .map_or(ExecutorPoolSpec::DEFAULT_QUEUE_LIMIT, |object| {
                object.spec.queue_limit
            });
        let pool = wish.pool.to_owned();
        if waiting >= usize::try_from(limit).unwrap_or(0) {
            return Some(Refused::QueueFull { pool, waiting });
        }
        let recent = self
            .left
            .iter()
            .filter(|left| left.elapsed() <= PACE_WINDOW)
            .count();
        if recent < PACE_SAMPLES {
            return None;
        }
        let turns = f64::from(u32::try_from(waiting + 1).unwrap_or(u32::MAX));
        let pace = f64::from(u32::try_from(recent).unwrap_or(u32::MAX)) / PACE_WINDOW.as_secs_f64();
        (turns / pace > wish.patience.as_secs_f64()).then_some(Refused::TooSlow { pool, waiting })
    }

    /// How many idle Pods it is to have.
    pub fn wanted(&self) -> usize {
        let replicas = self.object.as_ref().map_or(0, |object| object.spec.replicas);
        usize::try_from(replicas).unwrap_or(0)
    }

    /// Whether nothing here is worth remembering.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
            && self.used.len() == 0
            && self.returning.is_empty()
            && self.creating == 0
            && self.queue.len() == 0
            && self.holders.is_empty()
    }

    /// Takes an idle Pod out for good.
    pub fn take_out(&mut self, name: &str) {
        self.idle.remove(name);
        self.taken.insert(name.to_owned());
    }

    /// Notes that a Pod did not come up.
    pub fn failed(&mut self, reason: &'static str, message: String) {
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.failures.min(10)))
            .min(LONGEST_PAUSE);
        self.failures += 1;
        self.pause_until = Some(Instant::now() + pause);
        self.problem = Some((reason, message));
    }

    /// Notes that one did.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.pause_until = None;
        self.problem = None;
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
