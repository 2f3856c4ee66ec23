"""How any process joins the platform: the local head, connecting, jobs, the command line. No domain logic."""
