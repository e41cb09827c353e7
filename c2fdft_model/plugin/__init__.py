"""How the packages become part of BasicSR: start-up hook, registration, patches, doctor."""
