//! What caveats name, and something of each sort that they do not name.

use crate::macaroon::{Caveat, Command, Resources, Text};

/// Everything that a set of caveats names, in the order it comes, each once.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    pub(super) apps: Vec<u64>,
    pub(super) machines: Vec<&'a str>,
    pub(super) volumes: Vec<&'a str>,
    pub(super) features: Vec<&'a str>,
    pub(super) app_features: Vec<&'a str>,
    pub(super) machine_features: Vec<&'a str>,
    pub(super) clusters: Vec<&'a str>,
    pub(super) objects: Vec<&'a str>,
    pub(super) mutations: Vec<&'a str>,
    pub(super) commands: Vec<(Vec<String>, bool)>,
    /// Organizations; at most one of them can be the token's.
    pub(super) orgs: Vec<u64>,
    /// Whether there is more than is worth a sentence: what is beyond is not among the above.
    pub(super) more: bool,
}

/// Something that no caveat names. Whatever caveats permit for it they permit for everything that
/// they do not name: they tell objects apart by nothing but equality, and objects in a storage by
/// their beginning.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) command: Vec<String>,
}

impl<'a> Named<'a> {
    pub(super) fn of(caveats: &[&'a Caveat]) -> (Self, Stranger) {
        let mut all = All::default();
        for caveat in caveats {
            all.add(caveat);
        }
        let stranger = all.stranger();
        if all.named.more {
            // What may be done under a prefix depends on every longer one, so none can be left out.
            all.named.objects.clear();
        }
        (all.named, stranger)
    }
}

/// Collects; what does not fit into [`Named`] is remembered too, for nothing of it is a stranger.
#[derive(Default)]
struct All<'a> {
    named: Named<'a>,
    ids: Vec<u64>,
    texts: Vec<&'a str>,
}

impl<'a> All<'a> {
    fn add(&mut self, caveat: &'a Caveat) {
        let named = &mut self.named;
        let list = match caveat {
            Caveat::Organization { id, .. } => {
                self.ids.push(*id);
                named.more |= !keep(&mut named.orgs, *id);
                return;
            }
            Caveat::Apps(map) => {
                for (id, _) in map.entries() {
                    self.ids.push(*id);
                    named.more |= !keep(&mut named.apps, *id);
                }
                return;
            }
            Caveat::IfPresent { ifs, .. } => {
                for caveat in ifs.iter().flatten() {
                    self.add(caveat);
                }
                return;
            }
            Caveat::Mutations(names) => {
                for name in names.iter().flatten().filter_map(text) {
                    self.texts.push(name);
                    named.more |= !keep(&mut named.mutations, name);
                }
                return;
            }
            Caveat::Commands(commands) => {
                for command in commands.iter().flatten() {
                    self.command(command);
                }
                return;
            }
            Caveat::Machines(map) => (map, &mut named.machines),
            Caveat::Volumes(map) => (map, &mut named.volumes),
            Caveat::FeatureSet(map) => (map, &mut named.features),
            Caveat::AppFeatureSet(map) => (map, &mut named.app_features),
            Caveat::MachineFeatureSet(map) => (map, &mut named.machine_features),
            Caveat::Clusters(map) => (map, &mut named.clusters),
            Caveat::StorageObjects(map) => (map, &mut named.objects),
            Caveat::ValidityWindow { .. }
            | Caveat::ConfineUser(_)
            | Caveat::ConfineOrganization(_)
            | Caveat::IsUser(_)
            | Caveat::ThirdParty(_)
            | Caveat::BindToParentToken(_)
            | Caveat::FromMachineSource(_)
            | Caveat::ConfineGoogleHd(_)
            | Caveat::ConfineGitHubOrg(_)
            | Caveat::MaxValidity(_)
            | Caveat::IsMember
            | Caveat::FlyioUserId(_)
            | Caveat::GitHubUserId(_)
            | Caveat::GoogleUserId(_)
            | Caveat::Action(_)
            | Caveat::AllowedRoles(_)
            | Caveat::FlySrc { .. }
            | Caveat::Unregistered { .. } => return,
        };
        let (map, list): (&Resources<Text>, &mut Vec<&str>) = list;
        for key in map.entries().iter().filter_map(|(key, _)| text(key)) {
            self.texts.push(key);
            named.more |= !keep(list, key);
        }
    }

    fn command(&mut self, command: &'a Command) {
        let words = command.args.iter().flatten().map(text);
        let Some(words) = words.collect::<Option<Vec<_>>>() else {
            return;
        };
        self.texts.extend(&words);
        if words.is_empty() {
            return;
        }
        let words = words.into_iter().map(str::to_owned).collect();
        self.named.more |= !keep(&mut self.named.commands, (words, command.exact));
    }

    fn stranger(&self) -> Stranger {
        let known = self.texts.iter().chain(&FEATURES);
        let begin: Vec<char> = known.filter_map(|text| text.chars().next()).collect();
        let mut letters = '!'..=char::MAX;
        let name: String = letters.find(|c| !begin.contains(c)).into_iter().collect();
        Stranger {
            id: (1..).find(|id| !self.ids.contains(id)).unwrap_or(u64::MAX),
            command: vec![name.clone()],
            name,
        }
    }
}

/// Adds what is not there yet; whether there is room. The zero id and the empty name stand for
/// everything, which a stranger stands for already.
fn keep<T: PartialEq + Default>(list: &mut Vec<T>, item: T) -> bool {
    if item == T::default() || list.contains(&item) {
        return true;
    }
    let room = list.len() < MANY;
    if room {
        list.push(item);
    }
    room
}

/// Text that a request can hold. No other text is ever met by one.
fn text(text: &Text) -> Option<&str> {
    std::str::from_utf8(text.as_bytes()).ok()
}

/// Features of organizations that roles tell apart.
pub(super) const FEATURES: [&str; 12] = [
    "wg",
    "domain",
    "site",
    "builder",
    "addon",
    "checks",
    "litefs-cloud",
    "membership",
    "billing",
    "authentication",
    "deletion",
    "document_signing",
];

/// How many of a sort a sentence names at most.
const MANY: usize = 8;
