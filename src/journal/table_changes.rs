//! Table changes: the entries of the journal that are not events, such as a new subscription or a
//! checkpoint of deliveries.
//!
//! ```text
//! group   table u8 | change …
//! change  1 u8 | key length u32 | key | value length u32 | value      put
//!         2 u8 | key length u32 | key                                 remove
//!         3 u8 | prefix length u32 | prefix                           remove all keys with a prefix
//! ```

use bytes::{Buf, BufMut, Bytes};

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const REMOVE_PREFIX: u8 = 3;

/// Number of the table of a group without changes, which only proves that the journal is writable.
const NO_TABLE: u8 = 0;

/// Change to one table of the node's own data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// Sets the value of a key, in place of any earlier one.
    Put {
        /// Key of the changed row.
        key: Vec<u8>,
        /// New value of the row, of any length.
        value: Vec<u8>,
    },
    /// Removes a key and its value, if they are there.
    Remove {
        /// Key of the changed row.
        key: Vec<u8>,
    },
    /// Removes all keys that begin with a prefix.
    RemovePrefix {
        /// First bytes of the removed keys.
        prefix: Vec<u8>,
    },
}

/// Changes to one table that are made together, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChanges {
    /// Number of the table; 0 is reserved.
    pub table: u8,
    /// Changes in the order in which they apply.
    pub changes: Vec<TableChange>,
}

impl TableChanges {
    /// Largest group that can be appended, in bytes. It is far above what a checkpoint of all
    /// deliveries takes.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Group without changes, which proves only that the journal can be written.
    pub(super) const fn empty() -> Self {
        Self {
            table: NO_TABLE,
            changes: Vec::new(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.table];
        for change in &self.changes {
            let (tag, key) = match change {
                TableChange::Put { key, .. } => (PUT, key),
                TableChange::Remove { key } => (REMOVE, key),
                TableChange::RemovePrefix { prefix } => (REMOVE_PREFIX, prefix),
            };
            out.put_u8(tag);
            put_bytes(&mut out, key);
            if let TableChange::Put { value, .. } = change {
                put_bytes(&mut out, value);
            }
        }
        out
    }

    /// Decodes a group; `None` if no version of this program writes one like it.
    pub(super) fn decode(mut body: Bytes) -> Option<Self> {
        let table = body.try_get_u8().ok()?;
        let mut changes = Vec::new();
        while !body.is_empty() {
            let tag = body.try_get_u8().ok()?;
            let key = take_bytes(&mut body)?;
            changes.push(match tag {
                PUT => TableChange::Put {
                    key,
                    value: take_bytes(&mut body)?,
                },
                REMOVE => TableChange::Remove { key },
                REMOVE_PREFIX => TableChange::RemovePrefix { prefix: key },
                _ => return None,
            });
        }
        Some(Self { table, changes })
    }

    /// Returns the approximate number of bytes of the encoded form.
    pub(super) fn encoded_bytes(&self) -> usize {
        let sizes = self.changes.iter().map(|change| match change {
            TableChange::Put { key, value } => key.len() + value.len() + 9,
            TableChange::Remove { key } | TableChange::RemovePrefix { prefix: key } => {
                key.len() + 5
            }
        });
        sizes.sum::<usize>() + 1
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("keys and values are far smaller than 4 GiB"));
    out.put_slice(bytes);
}

fn take_bytes(body: &mut Bytes) -> Option<Vec<u8>> {
    let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
    (length <= body.len()).then(|| body.split_to(length).to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn sample() -> TableChanges {
        let key = b"k".to_vec();
        TableChanges {
            table: 3,
            changes: vec![
                TableChange::RemovePrefix {
                    prefix: key.clone(),
                },
                TableChange::Put {
                    key: key.clone(),
                    value: b"value".to_vec(),
                },
                TableChange::Remove { key },
            ],
        }
    }

    #[test]
    fn the_bytes_of_table_changes_never_change() {
        let golden = "0303000000016b01000000016b0000000576616c756502000000016b";
        assert_eq!(hex::encode(sample().encode()), golden);
        assert_eq!(sample().encoded_bytes() + 4, sample().encode().len() + 4);
    }

    #[test]
    fn a_group_with_an_unknown_change_is_not_read() {
        assert_eq!(TableChanges::decode(Bytes::new()), None);
        assert_eq!(TableChanges::decode(vec![3, 9, 0, 0, 0, 0].into()), None);
        assert_eq!(TableChanges::decode(vec![3, 1, 0, 0, 0, 9].into()), None);
    }

    proptest! {
        #[test]
        fn encoded_changes_are_decoded_unchanged(
            table in any::<u8>(),
            rows in prop::collection::vec(
                (0_u8..3, prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..50)),
                0..9,
            ),
        ) {
            let changes = rows.into_iter().map(|(tag, key, value)| match tag {
                0 => TableChange::Put { key, value },
                1 => TableChange::Remove { key },
                _ => TableChange::RemovePrefix { prefix: key },
            });
            let group = TableChanges { table, changes: changes.collect() };
            prop_assert_eq!(TableChanges::decode(group.encode().into()), Some(group));
        }

    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_group_of_changes_is_read_or_refused(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            damaged(&[sample().encode()]),
        ]) {
            let _ = TableChanges::decode(bytes.into());
        }
    }
}
