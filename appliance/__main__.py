"""`python -m appliance`: the program, where no script was installed for it."""

from appliance.cli import main

if __name__ == "__main__":
    main()
