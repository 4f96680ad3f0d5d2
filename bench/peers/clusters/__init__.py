"""The clusters that are measured: how each is started, who leads it, and which loads it takes."""
