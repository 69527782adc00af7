"""What every part of Backstay stands on: names, bounds, counters. No I/O, no clock, no chance."""
