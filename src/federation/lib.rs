//! The rules of the federation: names, units, configuration, placement, migration steps. Pure: no IO, no clock.
