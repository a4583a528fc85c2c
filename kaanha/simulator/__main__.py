"""`python -m kaanha.simulator`."""

from kaanha.simulator.commandline import main

raise SystemExit(main())
