//! What caveats permit, found by asking them.
//!
//! Every object that they name is asked for with each action, and so is a stranger that stands for
//! all that they do not name, alone and with every part that a request about it can have. Only
//! what all of these requests may do is claimed: an access with several parts meets no caveat that
//! an access with one of them did not meet.

use std::collections::BTreeMap;

use super::named::{FEATURES, Named, Stranger};
use crate::macaroon::{Action, Caveat};
use crate::policy::{Access, clear};

/// Something permitted: what may be done, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Verbs, with what belongs between them and an object.
    pub(super) verbs: String,
    /// None where the verbs say it all.
    pub(super) objects: Vec<String>,
    /// What is not among it, behind the objects.
    pub(super) except: &'static str,
}

/// Caveats being asked.
pub(super) struct Survey<'a> {
    pub(super) caveats: &'a [&'a Caveat],
    pub(super) named: &'a Named<'a>,
    pub(super) stranger: &'a Stranger,
    /// The organization that is asked about.
    pub(super) org: u64,
    pub(super) now: i64,
}

/// What may be done with one object.
#[derive(Clone, Copy)]
struct Permitted {
    actions: Action,
    commands: Commands,
}

/// Commands among what may be done with an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commands {
    /// It has none.
    Inapplicable,
    /// Any command may be run with these actions.
    Any,
    /// Not every command may.
    NotAny,
}

impl Permitted {
    fn covers(self, other: Self) -> bool {
        let commands = self.commands != Commands::NotAny || other.commands != Commands::Any;
        other.actions.is_within(self.actions) && commands
    }

    fn is_all(self) -> bool {
        self.actions == Action::ALL
    }

    /// The claim, but for its objects.
    fn claim(self) -> Claim {
        Claim {
            verbs: match self.is_all() {
                true => "do anything with".to_owned(),
                false => verbs(self.actions),
            },
            objects: Vec::new(),
            except: match self.commands {
                Commands::Inapplicable | Commands::Any => "",
                Commands::NotAny => " except running commands",
            },
        }
    }
}

impl<'a> Survey<'a> {
    /// The claims, those about more before those about less.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let everything = self.everything();
        if !everything.actions.is_empty() {
            claims.push(Claim {
                verbs: match everything.is_all() {
                    true => "do anything".to_owned(),
                    false => format!("{} everything", verbs(everything.actions)),
                },
                ..everything.claim()
            });
        }
        let mut add = |permitted: Permitted, known: &[Permitted], object: String| {
            if !known.iter().any(|known| known.covers(permitted)) {
                merge(&mut claims, permitted.claim(), object);
            }
        };
        let any_app = self.app(self.stranger.id);
        add(any_app, &[everything], "every app".to_owned());
        for id in &self.named.apps {
            add(self.app(*id), &[everything, any_app], format!("app {id}"));
        }
        for (app, label) in self.apps() {
            let known = [everything, any_app, self.app(app)];
            for (part, permitted) in self.parts(app) {
                add(permitted, &known, format!("{part} of {label}"));
            }
        }
        let features = FEATURES.into_iter().chain([self.stranger_name()]);
        let any_feature = self.all(features.flat_map(|name| self.feature(name)).collect());
        add(any_feature, &[everything], "every feature".to_owned());
        for name in &self.named.features {
            let known = [everything, any_feature];
            add(
                self.all(self.feature(name)),
                &known,
                format!("feature {name}"),
            );
        }
        let any_cluster = self.all(self.cluster(self.stranger_name()));
        let known = [everything, any_feature];
        add(any_cluster, &known, "every LiteFS cluster".to_owned());
        for name in &self.named.clusters {
            let known = [everything, any_feature, any_cluster];
            let permitted = self.all(self.cluster(name));
            add(permitted, &known, format!("LiteFS cluster {name}"));
        }
        let any_object = self.all(self.objects(""));
        let bare = self.all(self.with_mutation(self.bare()));
        // Storage belongs to no app and no feature either.
        let (known, label) = match any_object.covers(bare) {
            true => ([everything, bare], WITHOUT_NAME),
            false => (
                [everything, everything],
                "what belongs to no app, feature or storage",
            ),
        };
        add(any_object, &known, "every stored object".to_owned());
        for prefix in &self.named.objects {
            let permitted = self.all(self.objects(prefix));
            let known = [known.as_slice(), &[any_object]].concat();
            add(permitted, &known, format!("what is stored under {prefix}"));
        }
        add(bare, &[everything], label.to_owned());
        claims.extend(self.mutations());
        claims.extend(self.commands());
        claims
    }

    fn everything(&self) -> Permitted {
        let features = FEATURES.into_iter().chain([self.stranger_name()]);
        let mut asked = self.with_mutation(self.bare());
        asked.extend(features.flat_map(|name| self.feature(name)));
        asked.extend(self.objects(""));
        asked.extend(self.about_app(self.stranger.id));
        self.with_commands(&asked, self.on_any_machine(self.stranger.id))
    }

    fn app(&self, id: u64) -> Permitted {
        self.with_commands(&self.about_app(id), self.on_any_machine(id))
    }

    /// Every app at once, then those that are named.
    fn apps(&self) -> Vec<(u64, String)> {
        let named = self.named.apps.iter();
        let named = named.map(|id| (*id, format!("app {id}")));
        let any = (self.stranger.id, "any app".to_owned());
        std::iter::once(any).chain(named).collect()
    }

    /// What is named of the parts of an app.
    fn parts(&self, app: u64) -> Vec<(String, Permitted)> {
        let on = || self.on_app(app);
        let named = self.named;
        let mut parts = Vec::new();
        for id in &named.machines {
            let machine = || Access {
                machine: Some(id),
                ..on()
            };
            let mut asked = self.with_mutation(machine());
            asked.push(Access {
                machine_feature: Some(self.stranger_name()),
                ..machine()
            });
            let permitted = self.with_commands(&asked, machine());
            parts.push((format!("machine {id}"), permitted));
        }
        for id in &named.volumes {
            let volume = Access {
                volume: Some(id),
                ..on()
            };
            parts.push((format!("volume {id}"), self.all(self.with_mutation(volume))));
        }
        for name in &named.app_features {
            let feature = Access {
                app_feature: Some(name),
                ..on()
            };
            let permitted = self.all(self.with_mutation(feature));
            parts.push((format!("app feature {name}"), permitted));
        }
        for name in &named.machine_features {
            let feature = Access {
                machine: Some(self.stranger_name()),
                machine_feature: Some(name),
                ..on()
            };
            let permitted = self.all(self.with_mutation(feature));
            parts.push((format!("machine feature {name}"), permitted));
        }
        parts
    }

    /// Mutations that may be called where not all may.
    ///
    /// The actions that a mutation takes are its own, so one counts only where it may take all.
    fn mutations(&self) -> Vec<Claim> {
        let mut by_objects = BTreeMap::<Vec<String>, Vec<&str>>::new();
        for name in &self.named.mutations {
            let call = |access: Access<'a>| Access {
                mutation: Some(name),
                ..access
            };
            let mut callable = Vec::new();
            for (app, label) in self.apps() {
                let asked = self.about_app(app).into_iter().map(call);
                let calls = self.all(asked.collect());
                callable.push((label, calls, self.app(app)));
            }
            for feature in &self.named.features {
                let asked = self.feature(feature);
                let calls = self.all(asked.iter().cloned().map(call).collect());
                callable.push((format!("feature {feature}"), calls, self.all(asked)));
            }
            let asked = self.with_mutation(self.bare());
            let calls = self.all(vec![call(self.bare())]);
            callable.push((WITHOUT_ANY.to_owned(), calls, self.all(asked)));
            let objects: Vec<String> = callable
                .into_iter()
                .filter(|(_, calls, all)| calls.is_all() && !all.is_all())
                .map(|(label, ..)| label)
                .collect();
            by_objects.entry(objects).or_default().push(name);
        }
        let called = by_objects.into_iter().filter(|(on, _)| !on.is_empty());
        called
            .map(|(objects, names)| Claim {
                verbs: format!("call {} on", names.join(" and ")),
                objects,
                except: "",
            })
            .collect()
    }

    /// Commands that may be run where not all may.
    fn commands(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (app, label) in self.apps() {
            if self.app(app).is_all() && self.app(app).commands == Commands::Any {
                continue;
            }
            let any = (self.stranger_name(), format!("any machine of {label}"));
            let named = self.named.machines.iter();
            let named = named.map(|id| (*id, format!("machine {id} of {label}")));
            for (machine, label) in std::iter::once(any).chain(named) {
                for verbs in self.runs(app, machine) {
                    let claim = Claim {
                        verbs,
                        objects: Vec::new(),
                        except: "",
                    };
                    merge(&mut claims, claim, label.clone());
                }
            }
        }
        claims
    }

    /// The commands that may be run on a machine, as verbs. The actions that running one takes
    /// are not known here, so one counts only where it may take all.
    fn runs(&self, app: u64, machine: &'a str) -> Vec<String> {
        let may = |words: &[String]| {
            let machine = Access {
                machine: Some(machine),
                ..self.on_app(app)
            };
            let asked = Access {
                command: Some(words),
                ..machine
            };
            self.all(vec![asked]).is_all()
        };
        if may(&self.stranger.command) {
            return vec!["run any command on".to_owned()];
        }
        let mut runs = Vec::new();
        for (words, exact) in &self.named.commands {
            let text = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default();
            if *exact && may(words) {
                runs.push(format!("run `{text}` on"));
            } else if !*exact && may(&[words.as_slice(), &self.stranger.command].concat()) {
                runs.push(format!("run what begins with `{text}` on"));
            }
        }
        runs
    }

    fn stranger_name(&self) -> &'a str {
        &self.stranger.name
    }

    fn bare(&self) -> Access<'a> {
        Access {
            org: Some(self.org),
            ..Access::default()
        }
    }

    fn on_app(&self, app: u64) -> Access<'a> {
        Access {
            app: Some(app),
            ..self.bare()
        }
    }

    /// All that a request about an app can be about, but for commands.
    fn about_app(&self, app: u64) -> Vec<Access<'a>> {
        let stranger = Some(self.stranger_name());
        let on = || self.on_app(app);
        let mut asked = self.with_mutation(on());
        asked.push(Access {
            machine: stranger,
            ..on()
        });
        asked.push(Access {
            machine: stranger,
            machine_feature: stranger,
            ..on()
        });
        asked.push(Access {
            volume: stranger,
            ..on()
        });
        asked.push(Access {
            app_feature: stranger,
            ..on()
        });
        asked
    }

    fn feature(&self, name: &'a str) -> Vec<Access<'a>> {
        let mut asked = self.with_mutation(Access {
            feature: Some(name),
            ..self.bare()
        });
        if name == LITEFS {
            asked.extend(self.cluster(self.stranger_name()));
        }
        asked
    }

    fn cluster(&self, name: &'a str) -> Vec<Access<'a>> {
        self.with_mutation(Access {
            feature: Some(LITEFS),
            cluster: Some(name),
            ..self.bare()
        })
    }

    /// Objects in a storage, known by how they begin: those that caveats tell apart, and one that
    /// they do not.
    fn objects(&self, prefix: &'a str) -> Vec<Access<'a>> {
        let longer = self.named.objects.iter().copied();
        let longer = longer.filter(|name| name.starts_with(prefix));
        let stranger = prefix.is_empty().then(|| self.stranger_name());
        let object = |name| Access {
            storage_object: Some(name),
            ..self.bare()
        };
        let all = longer.chain(stranger).map(object);
        all.flat_map(|object| self.with_mutation(object)).collect()
    }

    fn with_mutation(&self, access: Access<'a>) -> Vec<Access<'a>> {
        let mutation = Access {
            mutation: Some(self.stranger_name()),
            ..access.clone()
        };
        vec![access, mutation]
    }

    fn all(&self, asked: Vec<Access<'_>>) -> Permitted {
        Permitted {
            actions: self.actions(&asked),
            commands: Commands::Inapplicable,
        }
    }

    /// What all of `asked` may do, and whether a command on the machine may do as much. Nobody
    /// reads by a command, so reading does not depend on it.
    fn with_commands(&self, asked: &[Access<'_>], machine: Access<'_>) -> Permitted {
        let command = Access {
            command: Some(&self.stranger.command),
            ..machine
        };
        let actions = self.actions(asked);
        let commands = self.actions(&[command]);
        let any = actions.without(Action::READ).is_within(commands);
        Permitted {
            actions,
            commands: if any { Commands::Any } else { Commands::NotAny },
        }
    }

    fn on_any_machine(&self, app: u64) -> Access<'a> {
        Access {
            machine: Some(self.stranger_name()),
            ..self.on_app(app)
        }
    }

    /// The actions that every one of these may do.
    fn actions(&self, asked: &[Access<'_>]) -> Action {
        let each = [
            Action::READ,
            Action::WRITE,
            Action::CREATE,
            Action::DELETE,
            Action::CONTROL,
        ];
        let permitted = |action: &Action| {
            asked.iter().all(|access| {
                let access = Access {
                    action: *action,
                    ..access.clone()
                };
                access.validate().is_ok()
                    && clear(self.caveats.iter().copied(), &access, self.now).is_ok()
            })
        };
        let bits = each.into_iter().filter(permitted).map(Action::bits);
        Action::from_bits(bits.fold(0, |all, bit| all | bit))
    }
}

/// Adds an object to the claim that says the same of others, else makes a new one.
fn merge(claims: &mut Vec<Claim>, claim: Claim, object: String) {
    let same = |known: &&mut Claim| {
        (&known.verbs, known.except) == (&claim.verbs, claim.except) && !known.objects.is_empty()
    };
    if let Some(known) = claims.iter_mut().find(same) {
        known.objects.push(object);
    } else {
        claims.push(Claim {
            objects: vec![object],
            ..claim
        });
    }
}

/// Words for actions, not for none and not for all of them.
fn verbs(actions: Action) -> String {
    let words: Vec<&str> = [
        (Action::READ, "read"),
        (Action::WRITE, "write"),
        (Action::CREATE, "create"),
        (Action::DELETE, "delete"),
        (Action::CONTROL, "start and stop"),
    ]
    .into_iter()
    .filter(|(action, _)| action.is_within(actions))
    .map(|(_, word)| word)
    .collect();
    listed(&words)
}

/// Items as a sentence lists them.
pub(super) fn listed(items: &[impl AsRef<str>]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What an access without app and feature is about.
const WITHOUT_NAME: &str = "what belongs to no app and no feature";

/// What an access without app, feature and stored object is about.
const WITHOUT_ANY: &str = "what belongs to no app, feature or storage";

/// The feature that clusters belong to.
const LITEFS: &str = "litefs-cloud";
