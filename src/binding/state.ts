/** EDGE: how what [bridge] and [bind] ask for stands in this kernel, with an agent or without. Changes nothing. */
import { type Binding, type DeclaredBridge, vifMatch, type WholeConfig } from '../config/schema.js';
import { observe } from '../declared/apply.js';
import type { Observed } from '../declared/observed.js';
import { planBridge } from '../declared/plan.js';
import { describeStep, type Step } from '../declared/step.js';
import { listOf, wantedBridge } from '../declared/wanted.js';
import type { OwnState } from '../doctor/own-network.js';
import type { HostKernel } from '../network/host-kernel.js';
import { readSysctl } from '../network/sysctl.js';
import { FORWARDING } from './bindings.js';
import { planBindings } from './plan.js';
import { appearances, forwardedFamilies, type SeenVif } from './wanted.js';

/** Without commands, probes and masquerading, which only the agent knows. Rejects with NetlinkError. */
export async function lookAtOwnNetwork(
  { bridges, bindings }: Pick<WholeConfig, 'bridges' | 'bindings'>,
  kernel: HostKernel,
  vifs: readonly SeenVif[],
): Promise<OwnState[]> {
  if (bridges.length === 0 && bindings.length === 0) return [];
  const ports = bridges.flatMap((bridge) => (bridge.vlan === undefined ? [] : listOf(bridge.ports)));
  const seen = await observe(kernel, ports);
  return [...bridges.map((one) => bridgeState(one, seen)), ...(await bindingStates(bindings, seen, vifs))];
}

function bridgeState(declared: DeclaredBridge, seen: Observed): OwnState {
  const { steps, warnings } = planBridge(wantedBridge(declared), seen);
  const { name } = declared;
  const lacks = [...warnings, ...steps.map(lacking)];
  return {
    table: `[bridge.${name}]`,
    state: lacks.length === 0 ? 'in force' : 'incomplete',
    interfaces: [name],
    lacks,
  };
}

async function bindingStates(
  bindings: readonly Binding[],
  seen: Observed,
  vifs: readonly SeenVif[],
): Promise<OwnState[]> {
  const present = bindings.flatMap((binding) => appearances(binding, seen, vifs));
  const { steps, warnings } = planBindings(bindings, present, seen, new Map());
  return Promise.all(
    bindings.map(async (binding): Promise<OwnState> => {
      const table = `[bind.${binding.name}]`;
      const names = present.filter((one) => one.binding === binding).map(({ ifname }) => ifname);
      if (names.length === 0) return { table, state: 'waiting', interfaces: [], lacks: [`for ${aimOf(binding)}`] };
      const lacks = [
        ...(warnings.get(binding.name) ?? []),
        ...(steps.get(binding.name) ?? []).map(lacking),
        ...(await notForwarded(binding)),
      ];
      const interfaces = binding.on === undefined ? names : [binding.on];
      return { table, state: lacks.length === 0 ? 'in force' : 'incomplete', interfaces, lacks };
    }),
  );
}

const lacking = (step: Step): string => `not so yet: ${describeStep(step)}`;

function aimOf(binding: Binding): string {
  const { whenInterface, whenBridge } = binding;
  if (whenBridge !== undefined) return `a port of ${whenBridge}`;
  if (vifMatch(binding) !== undefined) return 'a vif as when.vif has it';
  return listOf(whenInterface).join(' or ');
}

async function notForwarded(binding: Binding): Promise<string[]> {
  const names = forwardedFamilies(binding).map((family) => FORWARDING[family]);
  const values = await Promise.all(names.map(readSysctl));
  return names.filter((_, i) => values[i] === '0').map((name) => `${name} is 0`);
}
