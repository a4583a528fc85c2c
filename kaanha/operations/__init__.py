"""Signs of life: which processes run, as far as the others can see."""
